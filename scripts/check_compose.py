"""Checks a compose file, as `docker compose config --format json` resolves it, against what its schema cannot say.

    docker compose … config --format json | check_compose.py production|tls|monitoring|dev
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
# As of the replicas where DRAIN_SECONDS is not set, and of Nginx when it is told to end.
DEFAULT_DRAIN = "20s"
ONE_SHOT = {"keys", "database-role", "migrate"}
# Those that docker-compose.dev.yml builds and runs from the working copy.
DEVELOPED = {"api", "ws", "migrate"}
# The settings of the replicas that say where things are: the compose files and the images set them, or leave them alone.
FIXED = {
    *("HOST", "PORT", "METRICS_PORT", "TRUSTED_PROXIES", "COOKIE_SECURE", "COOKIE_NAME", "REDIS_URL", "REDIS_PASSWORD_FILE", "DATABASE_URL", "DATABASE_OWNER_URL"),
    *("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME"),
    *("PUBLIC_KEY_PATH", "PRIVATE_KEY_PATH", "REFRESH_KEY_PATH"),
}
# Postgres and `keys` begin as root, to read what is others', and go on as users of their own.
ADDED = {
    "keys": {"DAC_READ_SEARCH", "SETGID", "SETUID"},
    "postgres": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"},
}
SECRET = re.compile(r"://[^/@:]*:[^/@]*@|PASSWORD$|SECRET|PRIVATE KEY")


def seconds(text):
    """Of a duration as Compose and the replicas write it; a bare number is seconds."""
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s?)?", text).groups()
    return int(minutes or 0) * 60 + int(rest or 0)


def settings_of(kind):
    """The names in the tables of README.md, of both kinds of replica and of one."""
    text = README.read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    both, api, ws = re.split(r"\nOnly the (?:REST|WebSocket) replica:\n", text)
    table = both + {"api": api, "ws": ws}[kind]
    return {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


def unlike_the_settings(kind, service):
    """Without a value in the environment, what is passed on from there has none."""
    passed_on = {name for name, value in service["environment"].items() if value is None}
    wanted = settings_of(kind) - FIXED
    for name in sorted(wanted - passed_on):
        yield f"{kind}: does not pass on {name}, which is a setting in README.md"
    for name in sorted(passed_on - wanted):
        yield f"{kind}: passes on {name}, which is no setting in README.md, or is one that containers have fixed"


def undocumented():
    """What may be set for the compose files, and is said nowhere."""
    files = "".join(file.read_text() for file in ROOT.glob("docker-compose*.yml"))
    documents = README.read_text() + (ROOT / "docs/deployment.md").read_text()
    for name in sorted(set(re.findall(r"\$\{(\w+)", files)) - set(re.findall(r"`(\w+)(?:=[^`]*)?`", documents))):
        yield f"{name} may be set, and docs/deployment.md does not say so"


# Who may read which volume of secrets.
READERS = {
    "keys": {"keys", "api", "migrate"},
    "database-password": {"keys", "postgres", "database-role", "migrate"},
    "database-role": {"keys", "api", "database-role"},
    "redis-password": {"keys", "redis", "api", "ws", "migrate"},
}


def misplaced_secrets(services):
    for volume, readers in READERS.items():
        found = {name for name, service in services.items() if volume in [m.get("source") for m in service.get("volumes", [])]}
        if found != readers:
            yield f"{volume} is mounted by {', '.join(sorted(found))}, and not by {', '.join(sorted(readers))}"
    for name in ("api", "ws"):
        environment = services[name]["environment"]
        if "authuser" in str(environment) or "DATABASE_OWNER_URL" in environment:
            yield f"{name}: is the owner of the schema"
    if "/run/redis/redis.conf" not in services["redis"]["command"]:
        yield "redis: has no password"
    if not any("REDISCLI_AUTH" in word for word in services["redis"]["healthcheck"]["test"]):
        yield "redis: is asked for its health without its password"


def problems_of(name, service, mode):
    developing = mode == "dev" and name in DEVELOPED
    if "container_name" in service:
        yield "a name of its own: it could not be scaled"
    if not developing:
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            yield "writes to its image, or keeps capabilities"
        if set(service.get("deploy", {}).get("resources", {}).get("limits", {})) != {"cpus", "memory", "pids"}:
            yield "has no limit on processors, memory or processes"
    rights = set(service.get("cap_add") or [])
    if service.get("user") == "root" and "ALL" in (service.get("cap_drop") or []) and "DAC_READ_SEARCH" not in rights:
        yield "is root without its capabilities: it could not read the secrets, which are another user's"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    if "max-size" not in service["logging"]["options"]:
        yield "may fill the disk with its log"
    if rights - ADDED.get(name, set()):
        yield f"is given capabilities: {', '.join(sorted(rights))}"
    for variable, value in service.get("environment", {}).items():
        if SECRET.search(f"{variable}") or SECRET.search(str(value)):
            yield f"{variable}: a secret in the environment"
    if [port for port in service.get("ports", []) if port.get("host_ip") != "127.0.0.1"]:
        yield "can be reached from outside, although HTTP_ADDRESS does not say so"
    if service.get("ports") and name not in ("nginx", "prometheus") and mode != "dev":
        yield "publishes a port"
    if name in ONE_SHOT:
        return
    if service["restart"] != "unless-stopped":
        yield "stays down when it falls"
    if service.get("healthcheck", {}).get("disable") or "healthcheck" not in service:
        yield "nobody knows whether it is well"
    drain = service.get("environment", {}).get("DRAIN_SECONDS") or DEFAULT_DRAIN
    if seconds(service["stop_grace_period"]) < seconds(drain) + 5:
        yield f"would be killed before it has drained ({drain})"


def main():
    mode = sys.argv[1]
    config = json.load(sys.stdin)
    services = config["services"]
    problems = [f"{name}: {problem}" for name, service in services.items() for problem in problems_of(name, service, mode)]
    for network in ("front", "stores"):
        if not config["networks"][network].get("internal"):
            problems.append(f"the network {network} leads outside")
    if mode == "production":
        problems += [problem for kind in ("api", "ws") for problem in unlike_the_settings(kind, services[kind])]
        problems += undocumented()
    if mode != "dev":
        if set(services["nginx"]["networks"]) & {"stores"}:
            problems.append("nginx reaches the stores")
        if set(services["postgres"]["networks"]) | set(services["redis"]["networks"]) != {"stores"}:
            problems.append("the stores are not by themselves")
    if set(services["nginx"]["depends_on"]) != {"keys"}:
        problems.append("nginx: what it depends on is stopped after it, so that sockets of ws are cut; only `keys` is not, and has to be asked")
    problems += misplaced_secrets(services)
    secure = services["api"]["environment"]["COOKIE_SECURE"]
    if secure != ("true" if mode == "tls" else "false"):
        problems.append(f"api: COOKIE_SECURE is {secure}")
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"compose ({mode}): {len(services)} services")


if __name__ == "__main__":
    main()
