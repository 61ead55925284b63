"""Judges what the service writes as XML, without any of its code.

usage: validate_feed.py feed URL     an Atom feed on standard input that was read from URL; prints it as JSON
       validate_feed.py svg          a badge on standard input; prints what it says
"""

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from lxml import etree

ATOM = "{http://www.w3.org/2005/Atom}"
SVG = "{http://www.w3.org/2000/svg}"
TEXT_CONSTRUCTS = ["title", "subtitle", "summary", "rights"]
# RFC 3339, with the capital T and Z that RFC 4287 (3.3) asks for.
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;.*)?")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")


def check(holds, rule):
    if not holds:
        sys.exit(f"not valid: {rule}")


def parse(data):
    # As strict as XML is: no recovery, and nothing from elsewhere.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        tree = etree.ElementTree(etree.fromstring(data, parser))
    except etree.XMLSyntaxError as error:
        sys.exit(f"not well-formed: {error}")
    check(tree.docinfo.internalDTD is None, "a document type is not expected")
    return tree


def read_date(element):
    check(DATE.fullmatch(element.text or ""), f"{element.tag} is {element.text!r}, no date of RFC 3339")
    return datetime.fromisoformat(element.text)


def check_id(element):
    check(SCHEME.fullmatch(element.text or ""), f"the id {element.text!r} is no absolute IRI (4.2.6)")
    return element.text


def check_links(element, url):
    links, alternates = {}, set()
    for link in element.findall(f"{ATOM}link"):
        rel, href = link.get("rel", "alternate"), link.get("href")
        if "type" in link.attrib:
            check(MEDIA_TYPE.fullmatch(link.get("type")), f"{link.get('type')!r} is no media type (4.2.7.3)")
        if rel == "alternate":
            kind = (link.get("type"), link.get("hreflang"))
            check(kind not in alternates, f"two alternate links of {kind} (4.1.1, 4.1.2)")
            alternates.add(kind)
        parts = urlsplit(href)
        is_relative = not parts.scheme and not parts.netloc and not parts.path.startswith("/")
        check(is_relative, f"{href!r} would leave the prefix of a proxy")
        links[rel] = urljoin(url, href)
    return links


def read_texts(element):
    texts = {}
    for name in TEXT_CONSTRUCTS:
        for construct in element.findall(ATOM + name):
            check(name not in texts, f"{name} stands twice")
            check(construct.get("type", "text") in ("text", "html", "xhtml"), f"the type of {name} (3.1.1)")
            check(construct.get("type", "text") != "text" or len(construct) == 0, f"elements in {name} (3.1.1.1)")
            texts[name] = construct.text or ""
    return texts


def read_entry(entry, url):
    links = check_links(entry, url)
    content = entry.find(f"{ATOM}content")
    check(content is not None or "alternate" in links, "an entry needs content or an alternate link (4.1.2)")
    texts = read_texts(entry)
    check(texts["title"], "a title of an entry is empty")
    if content is not None and content.get("src") is not None:
        check("summary" in texts, "content from elsewhere needs a summary (4.1.2)")
    terms = [category.get("term") for category in entry.findall(f"{ATOM}category")]
    check(all(terms), "a category without a term (4.2.2.1)")
    return {
        "id": check_id(entry.find(f"{ATOM}id")),
        "updated": read_date(entry.find(f"{ATOM}updated")).isoformat(),
        "terms": terms,
        "links": links,
        **texts,
    }


def read_feed(data, url):
    tree = parse(data)
    check((tree.docinfo.encoding or "").lower() == "utf-8", f"the encoding is {tree.docinfo.encoding}")
    schema = etree.RelaxNG(etree.parse(Path(__file__).with_name("atom.rng")))
    check(schema.validate(tree), schema.error_log)
    feed = tree.getroot()
    check(feed.tag == f"{ATOM}feed", f"the root is {feed.tag}")
    entries = feed.findall(f"{ATOM}entry")
    has_author = feed.find(f"{ATOM}author/{ATOM}name") is not None
    check(
        has_author or all(entry.find(f"{ATOM}author") is not None for entry in entries),
        "somebody must have written it (4.1.1)",
    )
    links = check_links(feed, url)
    check("self" in links, "a feed should say where it is (4.1.1)")
    found = [read_entry(entry, url) for entry in entries]
    ids = [entry["id"] for entry in found]
    check(len(set(ids)) == len(ids), "ids of entries are not unique (4.1.1)")
    feed_id = check_id(feed.find(f"{ATOM}id"))
    check(feed_id not in ids, "the feed has the id of an entry")
    updated = read_date(feed.find(f"{ATOM}updated"))
    check(
        all(datetime.fromisoformat(entry["updated"]) <= updated for entry in found),
        "an entry is newer than the feed",
    )
    return {"id": feed_id, "updated": updated.isoformat(), "links": links, "entries": found, **read_texts(feed)}


def read_badge(data):
    badge = parse(data).getroot()
    check(badge.tag == f"{SVG}svg", f"the root is {badge.tag}")
    check(badge.get("role") == "img", "it is no image to a screen reader")
    title, label = badge.findtext(f"{SVG}title"), badge.get("aria-label")
    check(title and title == label, f"the title is {title!r} and aria-label {label!r}")
    shown = [text.text for text in badge.iter(f"{SVG}text")]
    check(": ".join(shown) == title, f"it shows {shown} and says {title!r}")
    check(not list(badge.iter(f"{SVG}script")), "it has a script")
    return {"title": title, "shown": shown}


def main():
    data = sys.stdin.buffer.read()
    match sys.argv[1:]:
        case ["feed", url]:
            found = read_feed(data, url)
        case ["svg"]:
            found = read_badge(data)
        case _:
            sys.exit(__doc__)
    print(json.dumps(found))


main()
