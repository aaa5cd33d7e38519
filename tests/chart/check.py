"""Reads rendered manifests, says what is wrong with them, and hands them on as JSON.

    check.py SCHEMAS VERSION… < manifests.yaml

Kubernetes' own kinds are checked against the schemas of each VERSION of Kubernetes, unknown fields
included. The other kinds are checked against the schemas of their definitions in SCHEMAS, a
node_modules directory with @kubernetes-models. Answers {"documents", "problems", "queries"}: the
last are the PromQL expressions of alerts and dashboards with the metrics that each reads.
"""

import json
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import promql_parser
import yaml

PACKAGES = {
    "gateway.networking.k8s.io": "gateway-api",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}


class UniqueKeys(yaml.CSafeLoader):
    """YAML in which a key that is there twice is an error, as it is for kubectl."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"there twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def closed(schema):
    """The schema, refusing fields that it does not name, as kubectl does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def definition(schemas, group, version, kind):
    """The schema of a custom resource, as its package has it, or None."""
    package = PACKAGES.get(group)
    if package is None:
        return None
    path = schemas / "@kubernetes-models" / package / group / version / f"{kind}.mjs"
    text = path.read_text()
    start = text.index("const schema = ") + len("const schema = ")
    schema, _ = json.JSONDecoder().raw_decode(text[start:])
    # Metadata is checked by Kubernetes itself; the package refers to another one for it.
    schema["properties"]["metadata"] = {"type": "object"}
    return closed(schema)


def problems_of(document, schemas, versions):
    name = f"{document['kind']} {document['metadata']['name']}"
    group, _, version = document["apiVersion"].rpartition("/")
    schema = definition(schemas, group, version, document["kind"])
    if schema is not None:
        for error in jsonschema.Draft7Validator(schema).iter_errors(document):
            yield f"{name}: {error.json_path}: {error.message}"
        return
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name}: Kubernetes {version} has no {document['apiVersion']}"


def expressions(document):
    """The PromQL of alerts and of Grafana's dashboards."""
    if document["kind"] == "PrometheusRule":
        for group in document["spec"]["groups"]:
            for rule in group["rules"]:
                yield rule["alert"], rule["expr"]
    if document["kind"] == "ConfigMap":
        for name, text in document.get("data", {}).items():
            if name.endswith(".json"):
                for panel in json.loads(text)["panels"]:
                    for target in panel["targets"]:
                        yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def metrics(text):
    """The names of the series that a query reads; an error where it is no query."""
    promql_parser.parse(text)
    bare = re.sub(r'"[^"]*"', '""', text)
    return sorted(set(re.findall(r"\b([a-z_:][a-z0-9_:]*)\{", bare)))


def main():
    schemas, versions = pathlib.Path(sys.argv[1]), sys.argv[2:]
    documents = [d for d in yaml.load_all(sys.stdin, UniqueKeys) if d]
    problems, queries = [], []
    for document in documents:
        problems += problems_of(document, schemas, versions)
        for title, text in expressions(document):
            try:
                queries.append({"title": title, "metrics": metrics(text)})
            except ValueError as error:
                problems.append(f"{title}: {error}")
    json.dump({"documents": documents, "problems": problems, "queries": queries}, sys.stdout)


main()
