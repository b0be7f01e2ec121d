"""Checks that alerts, dashboard, code and documents speak of the same things.

    check_monitoring.py RULES-FILE        writes there the rules that Prometheus itself reads
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
MONITORING = ROOT / "k8s/components/monitoring"
# Those whose programs measure something.
CRATES = ("api", "ws", "edge", "shared")
# Everything that looks like a metric; functions of PromQL have no underscore-separated unit at the end, or are listed here.
NAME = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b")
NO_METRIC = {"histogram_quantile", "label_replace", "__rate_interval"}
# Told by Prometheus itself, or in its own words.
SCRAPERS_OWN = {"up"}
SCRAPERS_LABELS = {"job", "namespace", "instance"}
# What every metric in an expression has to select: other teams and installations have metrics of the same names.
SELECTED = ("job", "namespace")
# Recorded as gauges and rendered as what they are (shared/src/telemetry/process.rs).
TRUE_TYPES = {"process_cpu_seconds_total": "counter"}
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')

problems = []


def metrics_in(expression):
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\bby \([^)]*\)", "", bare)
    bare = re.sub(r"\$\w+", "", bare)
    names = set(NAME.findall(re.sub(r"\{[^}]*\}", "", bare))) - NO_METRIC
    return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}


def unselected(expression):
    """Metrics that are taken from whoever has them."""
    bare = re.sub(r"\b(by|on|ignoring|without)\s*\([^)]*\)", "", expression)
    for name, matchers in re.findall(r"(?<![\w\"])((?:[a-z][a-z0-9]*_[a-z0-9_]+)|up)\b(?!\s*\()(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', bare)):
        for label in SELECTED:
            if name not in NO_METRIC and not re.search(rf"\b{label}=", matchers):
                yield f"{name} does not select the {label}"


def help_texts():
    """The metrics that have a HELP, with their types."""
    text = (ROOT / "shared/src/telemetry/described.rs").read_text(encoding="utf-8")
    return {name: kind.lower() for kind, name in re.findall(r'\(\s*(Counter|Gauge|Histogram),\s*"(\w+)"', text)}


def code():
    """All of the programs, without what breaks a string in two."""
    files = [file for crate in CRATES for file in sorted((ROOT / crate / "src").rglob("*.rs"))]
    return re.sub(r"\\\n\s*", "", "\n".join(file.read_text(encoding="utf-8") for file in files))


def wrong_matchers(expression, described, text):
    """Labels that a metric does not have, and values that nothing in the code could be."""
    for name, matchers in re.findall(r"\b([a-z_]+)\{([^}]*)\}", expression):
        labels = described.get(re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name), ("", ()))[1]
        for label, values in MATCHER.findall(matchers):
            if label in SCRAPERS_LABELS:
                continue
            if label not in labels:
                yield f"{name} has no label {label}"
            # A status is a pattern.
            for value in values.split("|") if label != "status" else ():
                if f'"{value}"' not in text and not (value.isdigit() and re.search(rf"\b{value}\b", text)):
                    yield f"no {label} of {name} is {value}"


def documented():
    """The metrics of the tables in docs/operations.md, with their types and labels."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    tables = text.split("| metric | type | labels | meaning |\n")[1:]
    metrics = {}
    for line in (line for table in tables for line in table.partition("\n\n")[0].splitlines()[1:]):
        name, kind, labels = (cell.strip() for cell in line.split("|")[1:4])
        name = name.strip("`")
        if name in metrics:
            problems.append(f"{name} is twice in docs/operations.md")
        metrics[name] = (kind, tuple(sorted(re.findall(r"`(\w+)`", labels))))
    return metrics


def in_code():
    """Every metric that the programs record, with how they do."""
    call = re.compile(r"\b(counter|gauge|histogram)!\(\s*\"([a-z0-9_]+)\"")
    metrics = {}
    for crate in CRATES:
        for file in (ROOT / crate / "src").rglob("*.rs"):
            text = file.read_text(encoding="utf-8")
            for found in call.finditer(text):
                kind, name = found.groups()
                kind = TRUE_TYPES.get(name, kind)
                labels = tuple(sorted(re.findall(r"\"(\w+)\"\s*=>", arguments(text[found.end() :]))))
                if metrics.setdefault(name, (kind, labels)) != (kind, labels):
                    problems.append(f"{name} is recorded in two ways: {metrics[name]} and {(kind, labels)}")
    return metrics


def arguments(text):
    """What stands before the parenthesis that ends a call."""
    open_ones = 1
    for place, letter in enumerate(text):
        open_ones += {"(": 1, ")": -1}.get(letter, 0)
        if open_ones == 0:
            return text[:place]
    return text


def main():
    described, recorded = documented(), in_code()
    known, text = set(described) | SCRAPERS_OWN, code()
    for name in sorted(recorded.keys() - described.keys()):
        problems.append(f"{name} is measured, and docs/operations.md does not say so")
    for name in sorted(described.keys() - recorded.keys()):
        problems.append(f"docs/operations.md describes {name}, which nothing measures")
    for name in sorted(described.keys() & recorded.keys()):
        if described[name] != recorded[name]:
            problems.append(f"docs/operations.md describes {name} as {described[name]}, and it is {recorded[name]}")

    helped = help_texts()
    for name in sorted(helped.keys() ^ recorded.keys()):
        problems.append(f"{name}: shared/src/telemetry/described.rs and what is measured differ")
    for name in sorted(helped.keys() & recorded.keys()):
        if helped[name] != TRUE_TYPES.get(name, recorded[name][0]):
            problems.append(f"{name} is described as {helped[name]}, and is {recorded[name][0]}")
    for name in sorted(recorded):
        if not name.startswith(("gatefold_", "process_")):
            problems.append(f"{name} could be anybody's: it needs the prefix gatefold_")

    # Lines of the log: what is in backquotes and has spaces, and is no setting.
    logs = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("\n## Logs\n")[2].partition("\n## ")[0]
    for line in re.findall(r"`([a-z][^`={]* [^`={]*)`", re.sub(r"\n(?!\n)", " ", logs)):
        if line not in text:
            problems.append(f"docs/operations.md: nothing logs '{line}'")

    with open(MONITORING / "prometheus-rule.yaml", encoding="utf-8") as file:
        spec = yaml.safe_load(file)["spec"]
    runbook = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(encoding="utf-8"), re.MULTILINE))
    alerts = [rule for group in spec["groups"] for rule in group["rules"]]
    for rule in alerts:
        name = rule["alert"]
        for metric in sorted(metrics_in(rule["expr"]) - known):
            problems.append(f"{name}: docs/operations.md knows no metric {metric}")
        problems.extend(f"{name}: {wrong}" for wrong in wrong_matchers(rule["expr"], described, text))
        problems.extend(f"{name}: {wrong}" for wrong in unselected(rule["expr"]))
        if name not in runbook:
            problems.append(f"{name}: not in docs/runbook.md")
        if rule["annotations"]["runbook"] != f"docs/runbook.md#{name.lower()}":
            problems.append(f"{name}: its annotation names another entry of the runbook")
        if rule["labels"]["severity"] not in ("critical", "warning"):
            problems.append(f"{name}: an unknown severity")
    for name in sorted(n for n in runbook - {rule["alert"] for rule in alerts} if n.startswith("Gatefold")):
        problems.append(f"docs/runbook.md: there is no alert {name}")

    with open(MONITORING / "grafana-dashboard.json", encoding="utf-8") as file:
        dashboard = json.load(file)
    panels = dashboard["panels"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    if not {"namespace", "job"} <= variables:
        problems.append("dashboard: it has to have the variables namespace and job")
    if len({panel["id"] for panel in panels}) != len(panels):
        problems.append("dashboard: two panels have one id")
    targets = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]
    for title, expression in targets:
        for metric in sorted(metrics_in(expression) - known):
            problems.append(f"dashboard, {title}: docs/operations.md knows no metric {metric}")
        problems.extend(f"dashboard, {title}: {wrong}" for wrong in wrong_matchers(expression, described, text))
        problems.extend(f"dashboard, {title}: {wrong}" for wrong in unselected(expression))
    # The dashboard's expressions become rules, so that promtool can say whether they are PromQL.
    expressions = [
        {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(targets)
    ]
    spec["groups"].append({"name": "dashboard", "rules": expressions})
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        yaml.safe_dump(spec, file)

    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"monitoring: {len(described)} metrics, {len(alerts)} alerts, {len(targets)} expressions of the dashboard")


if __name__ == "__main__":
    main()
