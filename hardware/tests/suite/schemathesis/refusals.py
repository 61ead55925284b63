"""Checks of what schemathesis.toml leaves open: what may be refused, and where that is said."""

import schemathesis
from schemathesis.generation.meta import REQUEST_SHAPE_PROBES, coverage_scenario

# Fields that a valid request may be refused for, as no schema says which values they can have: a language of
# its own, the cursor of another order, lists with quotes as in `q`; times that are too far apart or to come; what a batch may not say of pools that it
# does not list while it has a problem.
UNSAYABLE = {
    "GET /v1/availability": {"q", "cursor", "provider", "name", "region", "zone", "tier"},
    "GET /feed.atom": {"q", "provider", "name", "region", "zone", "tier"},
    "GET /v1/pools/{id}/history": {"from", "to"},
    "POST /v1/observations": {"observed_at", "unlisted"},
}


@schemathesis.check
def valid_data_is_refused_only_for_what_no_schema_says(ctx, response, case):
    fields = UNSAYABLE.get(case.operation.label)
    if fields is None or response.status_code != 400 or is_probe(case):
        return
    if case.meta.generation.mode.is_positive:
        assert response.json().get("field") in fields, f"refused valid data: {response.text}"


@schemathesis.check
def invalid_items_are_refused_one_by_one(ctx, response, case):
    if response.status_code != 200 or is_probe(case) or case.meta.generation.mode.is_positive:
        return
    if case.operation.label == "POST /v1/check":
        assert any("problem" in item for item in response.json()["items"]), "took an invalid item"
    elif case.operation.label in ("POST /v1/observations", "POST /v1/attempts"):
        assert response.json()["refused_total"] > 0, "took an invalid observation or attempt"


def is_probe(case):
    """Whether it is about something else than data, such as a method or a media type."""
    return case.meta is None or coverage_scenario(case) in REQUEST_SHAPE_PROBES
