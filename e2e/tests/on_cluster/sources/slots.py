"""Slots and GPUs of a cluster, computed a second time.

usage: kubectl get nodes,pods --all-namespaces --output json | slots.py CPU MEMORY [LABEL=VALUE] [TAINT-KEY…]

CPU and MEMORY are those of a slot. Nodes without LABEL=VALUE do not count, nor do those with a taint of
another key than these. Prints {"NAME UNIT": [FREE, TOTAL], …}. Written from the documentation of the
scheduler, not from the collector.
"""

import json
import sys
from collections import defaultdict
from fractions import Fraction
from math import floor

SUFFIXES = {"": 1, "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
SUFFIXES |= {letter: 1000 ** (power + 1) for power, letter in enumerate("kMGTPE")}
SUFFIXES |= {f"{letter}i": 1024 ** (power + 1) for power, letter in enumerate("KMGTPE")}


def quantity(text):
    text = str(text)
    digits = text.rstrip("".join(set("numkKMGTPEi")))
    return Fraction(digits) * SUFFIXES[text[len(digits) :]]


def requests_of(container):
    resources = container.get("resources", {})
    asked = {**resources.get("limits", {}), **resources.get("requests", {})}
    return defaultdict(Fraction, {name: quantity(amount) for name, amount in asked.items()})


def requests_of_pod(spec, resource):
    together = sum(requests_of(one)[resource] for one in spec["containers"])
    sidecars, most = Fraction(0), Fraction(0)
    for one in spec.get("initContainers", []):
        amount = requests_of(one)[resource]
        if one.get("restartPolicy") == "Always":
            sidecars += amount
            most = max(most, sidecars)
        else:
            most = max(most, sidecars + amount)
    of_all = max(together + sidecars, most)
    whole = spec.get("resources", {}).get("requests", {})
    if resource in whole:
        of_all = quantity(whole[resource])
    return of_all + quantity(spec.get("overhead", {}).get(resource, 0))


def takes_pods(node, tolerated):
    spec, status = node["spec"], node["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"])
    hard = [one for one in spec.get("taints", []) if one["effect"] != "PreferNoSchedule"]
    return ready and not spec.get("unschedulable") and all(one["key"] in tolerated for one in hard)


def main():
    cpu, memory = quantity(sys.argv[1]), quantity(sys.argv[2])
    selectors = [argument for argument in sys.argv[3:] if "=" in argument]
    tolerated = [argument for argument in sys.argv[3:] if "=" not in argument]
    items = json.load(sys.stdin)["items"]
    running = defaultdict(list)
    for pod in items:
        if pod["kind"] == "Pod" and pod["status"].get("phase") not in ("Succeeded", "Failed"):
            running[pod["spec"].get("nodeName")].append(pod["spec"])
    pools = defaultdict(lambda: [0, 0])

    def add(name, unit, free, total):
        pools[f"{name} {unit}"][0] += max(0, floor(free))
        pools[f"{name} {unit}"][1] += max(0, floor(total))

    for node in items:
        labels = node["metadata"].get("labels", {})
        if node["kind"] != "Node" or any(
            labels.get(selector.split("=")[0]) != selector.split("=")[1] for selector in selectors
        ):
            continue
        there = {name: quantity(it) for name, it in node["status"]["allocatable"].items()}
        pods = running[node["metadata"]["name"]]
        places = there["pods"] - len(pods)

        def left(resource):
            return there.get(resource, 0) - sum(requests_of_pod(pod, resource) for pod in pods)

        default = f"{labels.get('kubernetes.io/os', 'linux')}-{labels.get('kubernetes.io/arch', 'node')}"
        name = labels.get("node.kubernetes.io/instance-type", default)
        total = min(there["cpu"] / cpu, there["memory"] / memory, there["pods"])
        free = min(floor(left("cpu") / cpu), floor(left("memory") / memory), places)
        is_open = takes_pods(node, tolerated)
        add(name, "slot", free if is_open else 0, total if is_open else 0)
        if "nvidia.com/gpu" in there:
            model = labels.get("nvidia.com/gpu.product", "nvidia.com/gpu")
            is_open = takes_pods(node, [*tolerated, "nvidia.com/gpu"])
            free = left("nvidia.com/gpu") if is_open and places > 0 else 0
            add(model, "gpu", free, there["nvidia.com/gpu"] if is_open else 0)
    json.dump(pools, sys.stdout)


main()
