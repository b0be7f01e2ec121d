"""Checks rendered Kubernetes manifests: every resource against the schemas, and all of them together against what the
schemas cannot see, such as selectors that match nothing, secrets that nobody makes, or a grace that is shorter than the
drain.

    check_manifests.py KUBERNETES-VERSION FILE [SECRET…]     the secrets are those that somebody else makes
"""

import ipaddress
import json
import math
import os
import re
import sys

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

# Where DRAIN_SECONDS is not set, and of Nginx.
DEFAULT_DRAIN = "20s"
TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT, "minProperties": 1}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def fields(optional=None, **required):
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def some(items):
    return {"type": "array", "items": items, "minItems": 1}


# The `spec` of what operators bring, of which the package has no schemas: as much of each as is used here, and nothing else.
MATCH = fields(path=fields(type={"enum": ["Exact", "PathPrefix"]}, value=TEXT))
RULE = fields(
    {
        "backendRefs": some(fields(name=TEXT, port=PORT)),
        "timeouts": fields(request=DURATION, backendRequest=DURATION),
        "filters": some(
            fields(
                type={"const": "RequestRedirect"},
                requestRedirect=fields(scheme={"const": "https"}, statusCode={"enum": [301, 302]}),
            )
        ),
    },
    matches=some(MATCH),
)
TLS = fields(mode={"const": "Terminate"}, certificateRefs=some(fields(kind={"const": "Secret"}, name=TEXT)))
LISTENER = fields({"tls": TLS}, name=TEXT, protocol={"enum": ["HTTP", "HTTPS"]}, port=PORT, hostname=TEXT)
ALERT = fields({"for": DURATION}, alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS)
CUSTOM = {
    ("monitoring.coreos.com/v1", "PrometheusRule"): fields(groups=some(fields(name=TEXT, rules=some(ALERT)))),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): fields(
        selector=fields(matchExpressions=some({"type": "object"})),
        endpoints=some(fields(port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION)),
    ),
    ("external-secrets.io/v1", "ExternalSecret"): fields(
        {
            "data": some(fields(secretKey=TEXT, remoteRef=fields(key=TEXT, property=TEXT))),
            "dataFrom": some(fields(extract=fields(key=TEXT))),
        },
        refreshInterval=DURATION,
        secretStoreRef=fields(kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=TEXT),
        target=fields({"template": fields(data=TEXTS)}, name=TEXT),
    ),
    ("gateway.networking.k8s.io/v1", "Gateway"): fields(gatewayClassName=TEXT, listeners=some(LISTENER)),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): fields(
        parentRefs=some(fields(name=TEXT, sectionName=TEXT)), hostnames=some(TEXT), rules=some(RULE)
    ),
}
# Bytes of a socket in Nginx, with the kernel's, and of a place for a connection: docs/performance.md.
SOCKET_IN_PROXY, PLACE_IN_PROXY = 35_000, 432
WORKLOADS = {"Deployment", "StatefulSet", "Job"}

problems = []


def complain(resource, text):
    problems.append(f"{resource['kind']}/{resource['metadata']['name']}: {text}")


def check_schema(resource, folder, definitions):
    custom = CUSTOM.get((resource["apiVersion"], resource["kind"]))
    if custom:
        for error in jsonschema.Draft202012Validator(custom).iter_errors(resource["spec"]):
            complain(resource, f"spec.{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}")
        return
    version = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", resource["apiVersion"])
    path = f"{folder}/{resource['kind'].lower()}-{version}.json"
    if not os.path.exists(path):
        complain(resource, f"no such kind in {resource['apiVersion']}")
        return
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
    registry = definitions @ (Resource.from_contents(schema) @ Registry())
    for error in jsonschema.Draft202012Validator(schema, registry=registry).iter_errors(resource):
        complain(resource, f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}")


def pod_of(resource):
    return resource["spec"]["template"]


def matches(selector, labels):
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        if rule["operator"] != "In":
            raise ValueError(f"the operator {rule['operator']} is not known here")
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def amount(text):
    """A quantity (500m, 128Mi, 2) as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()
    units = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return float(number) * units[unit]


def seconds(text):
    """Of a duration as the replicas read it: 20, 20s, 1m."""
    number, unit = re.fullmatch(r"(\d+)(s|m|)", text).groups()
    return int(number) * (60 if unit == "m" else 1)


class Cluster:
    def __init__(self, resources, secrets):
        self.resources = resources
        # With the keys that are known of them.
        self.secrets = dict.fromkeys(secrets) | {r["metadata"]["name"]: None for r in self.of("Secret")}
        for external in (r["spec"] for r in self.of("ExternalSecret")):
            keys = {data["secretKey"] for data in external.get("data", [])}
            made = external["target"].get("template", {}).get("data", {})
            self.secrets[external["target"]["name"]] = keys | set(made)
        self.config_maps = {r["metadata"]["name"]: r.get("data") or {} for r in self.of("ConfigMap")}
        self.accounts = {r["metadata"]["name"] for r in self.of("ServiceAccount")}
        self.workloads = [r for r in resources if r["kind"] in WORKLOADS]

    def of(self, kind):
        return [r for r in self.resources if r["kind"] == kind]

    def pods(self, selector):
        return [w for w in self.workloads if matches(selector, pod_of(w)["metadata"]["labels"])]

    def check(self):
        namespaces = {r["metadata"]["name"] for r in self.of("Namespace")}
        names = set()
        for resource in self.resources:
            name = (resource["kind"], resource["metadata"]["name"])
            if name in names:
                complain(resource, "there are two of it")
            names.add(name)
            if resource["kind"] != "Namespace" and resource["metadata"].get("namespace") not in namespaces:
                complain(resource, "is in no namespace of ours")
        for namespace in self.of("Namespace"):
            if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
                complain(namespace, "does not enforce restricted pods")
        for workload in self.workloads:
            self.check_pod(workload)
        for kind in ("Deployment", "StatefulSet"):
            for workload in self.of(kind):
                if not matches(workload["spec"]["selector"], pod_of(workload)["metadata"]["labels"]):
                    complain(workload, "its selector does not match its own pods")
                self.check_serving(workload)
        self.check_edges()
        self.check_services()
        self.check_scaling()
        self.check_policies()

    def check_pod(self, workload):
        spec = pod_of(workload)["spec"]
        if spec.get("serviceAccountName") not in self.accounts:
            complain(workload, f"no such service account: {spec.get('serviceAccountName')}")
        if spec.get("automountServiceAccountToken") is not False:
            complain(workload, "is given a token of Kubernetes' API")
        if not spec["securityContext"].get("runAsNonRoot"):
            complain(workload, "may run as root")
        if spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
            complain(workload, "has no seccomp profile")
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        for claim in workload["spec"].get("volumeClaimTemplates", []):
            volumes[claim["metadata"]["name"]] = claim
        mounted = set()
        for container in spec["containers"]:
            self.check_container(workload, container)
            for mount in container.get("volumeMounts", []):
                mounted.add(mount["name"])
                if mount["name"] not in volumes:
                    complain(workload, f"mounts {mount['name']}, which is no volume")
                if "subPath" in mount:
                    complain(workload, f"{mount['name']}: a subPath never sees new keys")
        if set(volumes) != mounted:
            complain(workload, f"volumes that nobody mounts: {set(volumes) - mounted}")
        for volume in volumes.values():
            if "secret" in volume:
                self.need_secret(workload, volume["secret"]["secretName"], set())
            for source in volume.get("projected", {}).get("sources", []):
                self.need_secret(workload, source["secret"]["name"], {item["key"] for item in source["secret"]["items"]})

    def need_secret(self, workload, name, keys):
        if name not in self.secrets:
            complain(workload, f"no such secret: {name}")
        elif self.secrets[name] is not None and keys - self.secrets[name]:
            complain(workload, f"not in the secret {name}: {', '.join(sorted(keys - self.secrets[name]))}")

    def check_container(self, workload, container):
        context = container["securityContext"]
        if context.get("allowPrivilegeEscalation") is not False or context.get("readOnlyRootFilesystem") is not True:
            complain(workload, "may gain privileges, or write to its image")
        if context.get("capabilities") != {"drop": ["ALL"]}:
            complain(workload, "keeps capabilities")
        resources = container["resources"]
        for name in ("cpu", "memory", "ephemeral-storage"):
            if amount(resources["requests"][name]) > amount(resources["limits"][name]):
                complain(workload, f"asks for more {name} than it may have")
        for source in container.get("envFrom", []):
            if source["configMapRef"]["name"] not in self.config_maps:
                complain(workload, f"no such config map: {source['configMapRef']['name']}")
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if variable["name"] == "DATABASE_OWNER_URL" and workload["kind"] != "Job":
                complain(workload, "could rewrite the audit: it is the owner of the schema")
            if reference:
                self.need_secret(workload, reference["name"], {reference["key"]})
            elif re.search(r"PASSWORD$|_URL$|KEY$|TOKEN|SECRET", variable["name"]):
                complain(workload, f"{variable['name']} is written out")
        ports = {p["name"] for p in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in ports:
                complain(workload, f"{probe}: no such port: {port}")

    def check_serving(self, workload):
        spec = pod_of(workload)["spec"]
        container = spec["containers"][0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in container:
                complain(workload, f"has no {probe}")
        if workload["kind"] != "Deployment":
            return
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = self.setting(container, "DRAIN_SECONDS") or DEFAULT_DRAIN
        if spec["terminationGracePeriodSeconds"] < sleep + seconds(drain) + 5:
            complain(workload, f"would be killed before it has drained ({sleep} s of preStop and {drain})")
        if "replicas" in workload["spec"]:
            complain(workload, "`replicas` undoes what the autoscaler has decided, at every apply")
        if workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
            complain(workload, "ends replicas before others are there")
        if container["livenessProbe"]["httpGet"]["path"].endswith("ready"):
            complain(workload, "is restarted when a store is away")
        labels = pod_of(workload)["metadata"]["labels"]
        for constraint in spec["topologySpreadConstraints"]:
            if not matches(constraint["labelSelector"], labels):
                complain(workload, "spreads other pods than its own")
        for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler"):
            if len([r for r in self.of(kind) if r["metadata"]["name"] == workload["metadata"]["name"]]) != 1:
                complain(workload, f"has no {kind} of its name")

    def setting(self, container, name):
        """What a container's environment says, as its config maps and itself do."""
        values = [self.config_maps.get(s["configMapRef"]["name"], {}).get(name) for s in container.get("envFrom", [])]
        values += [v.get("value") for v in container.get("env", []) if v["name"] == name]
        return next((value for value in reversed(values) if value), None)

    def check_edges(self):
        """Who is believed about the client's address has to be named, by every proxy and replica, as narrowly as it is known."""
        for workload in self.of("Deployment"):
            container = pod_of(workload)["spec"]["containers"][0]
            if self.setting(container, "EDGE") in ("plain", "tls"):
                continue
            networks = self.setting(container, "TRUSTED_PROXIES")
            if not networks:
                complain(workload, "TRUSTED_PROXIES does not name the proxies before it")
                continue
            for text in re.split("[, ]+", networks):
                try:
                    network = ipaddress.ip_network(text)
                except ValueError as error:
                    complain(workload, f"TRUSTED_PROXIES: {error}")
                    continue
                if network.prefixlen < (16 if network.version == 4 else 32) or text == "192.168.0.0/16":
                    complain(workload, f"TRUSTED_PROXIES: {text} is more than the network of a proxy")

    def check_services(self):
        for service in self.of("Service"):
            pods = self.pods({"matchLabels": service["spec"]["selector"]})
            if not pods:
                complain(service, "its selector matches nothing")
            for pod in pods:
                names = {p["name"] for c in pod_of(pod)["spec"]["containers"] for p in c.get("ports", [])}
                for port in service["spec"]["ports"]:
                    if port["targetPort"] not in names:
                        complain(service, f"{pod['metadata']['name']} has no port {port['targetPort']}")
        services = {s["metadata"]["name"]: {p["name"] for p in s["spec"]["ports"]} for s in self.of("Service")}
        for ingress in self.of("Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    if backend["port"]["name"] not in services.get(backend["name"], ()):
                        complain(ingress, f"no such service or port: {backend}")
        numbers = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in self.of("Service")}
        listeners = {(g["metadata"]["name"], one["name"]) for g in self.of("Gateway") for one in g["spec"]["listeners"]}
        for route in self.of("HTTPRoute"):
            for backend in (b for rule in route["spec"]["rules"] for b in rule.get("backendRefs", [])):
                if backend["port"] not in numbers.get(backend["name"], ()):
                    complain(route, f"no such service or port: {backend}")
            for parent in route["spec"]["parentRefs"]:
                if (parent["name"], parent["sectionName"]) not in listeners:
                    complain(route, f"no such listener: {parent}")
        for monitor in self.of("ServiceMonitor"):
            selected = [s for s in self.of("Service") if matches(monitor["spec"]["selector"], s["metadata"]["labels"])]
            if len(selected) != 3:
                complain(monitor, f"selects {len(selected)} services")
            for endpoint in monitor["spec"]["endpoints"]:
                for service in selected:
                    if endpoint["port"] not in services[service["metadata"]["name"]]:
                        complain(monitor, f"{service['metadata']['name']} has no port {endpoint['port']}")

    def check_scaling(self):
        for budget in self.of("PodDisruptionBudget"):
            if not self.pods(budget["spec"]["selector"]):
                complain(budget, "its selector matches nothing")
        for scaler in self.of("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            if not [w for w in self.of(target["kind"]) if w["metadata"]["name"] == target["name"]]:
                complain(scaler, f"no such target: {target['name']}")
            if not 2 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]:
                complain(scaler, "fewer than two replicas, or more at least than at most")
        self.check_proxies({s["metadata"]["name"]: s["spec"] for s in self.of("HorizontalPodAutoscaler")})

    def check_proxies(self, scalers):
        """All sockets that ws replicas are scaled up to must find room in the proxies that there may be, and in their memory."""
        metrics = [m["pods"] for m in scalers["gatefold-ws"]["metrics"] if m["type"] == "Pods"]
        targets = [amount(m["target"]["averageValue"]) for m in metrics if m["metric"]["name"] == "gatefold_ws_sockets"]
        for proxy in (w for w in self.workloads if w["metadata"]["name"] == "gatefold-nginx"):
            container = pod_of(proxy)["spec"]["containers"][0]
            limits = container["resources"]["limits"]
            workers, connections = math.ceil(amount(limits["cpu"])), int(self.setting(container, "WORKER_CONNECTIONS"))
            room = workers * connections // 2
            if room * SOCKET_IN_PROXY + workers * connections * PLACE_IN_PROXY > amount(limits["memory"]):
                complain(proxy, f"has too little memory for the {room} sockets that it takes")
            for target in targets:
                share = target * scalers["gatefold-ws"]["maxReplicas"] / scalers["gatefold-nginx"]["maxReplicas"]
                if share > room / 2:
                    complain(proxy, f"would have {share:.0f} sockets, and half of its room for {room} is for calls and growth")

    def check_policies(self):
        policies = self.of("NetworkPolicy")
        if not [p for p in policies if p["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]:
            problems.append("there is no policy that denies by default")
        for policy in policies:
            spec = policy["spec"]
            chosen = self.pods(spec["podSelector"])
            if not chosen:
                complain(policy, "its selector matches nothing")
            for direction, side in (("ingress", "from"), ("egress", "to")):
                for rule in spec.get(direction, []):
                    if not rule.get(side) or not rule.get("ports"):
                        complain(policy, f"{direction} lets everybody in or out")
                        continue
                    for peer in rule[side]:
                        self.check_peer(policy, direction, chosen, peer, rule["ports"])

    def check_peer(self, policy, direction, chosen, peer, ports):
        """The pods on the other side must be there, and the ports be those of whoever listens."""
        others = None
        if "podSelector" in peer and "namespaceSelector" not in peer:
            others = self.pods(peer["podSelector"])
            if not others:
                complain(policy, f"a {direction} peer matches nothing: {peer['podSelector']}")
        listeners = chosen if direction == "ingress" else others
        for pod in listeners or []:
            names = {p["name"] for c in pod_of(pod)["spec"]["containers"] for p in c.get("ports", [])}
            for port in ports:
                if isinstance(port["port"], str) and port["port"] not in names:
                    complain(policy, f"{pod['metadata']['name']} has no port {port['port']}")


def main():
    version, file, *secrets = sys.argv[1:]
    folder = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema", f"v{version}-local-strict")
    with open(folder + "/_definitions.json", encoding="utf-8") as definitions:
        registry = Resource.from_contents(json.load(definitions))
    with open(file, encoding="utf-8") as rendered:
        resources = [r for r in yaml.safe_load_all(rendered) if r]
    for resource in resources:
        check_schema(resource, folder, registry)
    Cluster(resources, set(secrets)).check()
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"Kubernetes {version}: {len(resources)} resources")


if __name__ == "__main__":
    main()
