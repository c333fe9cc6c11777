#!/usr/bin/env python3
"""Records what the real cargo does with a project, as data for the golden tests.

    record.py <directory with ws/> <output.json> [NAME=VALUE..] <cargo arguments..>

CONFIG_RUSTFLAGS=.. says which rustflags the project's own configuration sets.

The project is copied to a new directory, its unit graph, metadata, configuration and manifests are
written down, and it is built with a RUSTC_WRAPPER that logs every compilation. Paths of the machine
are replaced by $WS, $ROOT, $TARGET, $CARGO_HOME and $SYSROOT. Build scripts that write their
environment to OUT_DIR/environment have it recorded.
"""
import glob, json, os, shutil, subprocess, sys, tempfile

HOST_VARS = ("PATH", "HOME", "RUSTUP_HOME", "CARGO_HOME", "RUSTUP_TOOLCHAIN")

def wrapper_main():
    args = sys.argv[1:]
    log = os.environ["VX_RECORD_LOG"]
    if "--crate-name" in args and "___" not in args:
        with open(os.path.join(log, f"{os.getpid()}-{os.urandom(4).hex()}.json"), "w") as out:
            json.dump({"argv": args[1:], "cwd": os.getcwd(), "env": dict(os.environ)}, out)
    os.execvp(args[0], args)

def run(cmd, cwd, env, **more):
    return subprocess.run(cmd, cwd=cwd, env={**env, **more}, check=True, stdout=subprocess.PIPE).stdout.decode()

def main():
    source, output, *cargo = sys.argv[1:]
    env = {k: os.environ[k] for k in HOST_VARS if k in os.environ}
    extra = [a for a in cargo if "=" in a and not a.startswith("-")]
    env.update(a.split("=", 1) for a in extra)
    cargo = [a for a in cargo if a not in extra]
    flags = env["RUSTFLAGS"].split() if "RUSTFLAGS" in env else env.pop("CONFIG_RUSTFLAGS", "").split()
    root = tempfile.mkdtemp(prefix="rec")
    project = os.path.join(root, "p")
    shutil.copytree(source, project, symlinks=True)
    ws = os.path.join(project, "ws") if os.path.isdir(os.path.join(project, "ws")) else project
    target, log = os.path.join(root, "target"), os.path.join(root, "log")
    os.makedirs(log)
    rustc_vv = run(["rustc", "-vV"], ws, env)
    sysroot = run(["rustc", "--print", "sysroot"], ws, env).strip()
    host = next(l.split(": ")[1] for l in rustc_vv.splitlines() if l.startswith("host: "))
    run(["cargo", "metadata", "--format-version", "1", "--offline"], ws, env)  # makes Cargo.lock
    unstable = {"RUSTC_BOOTSTRAP": "1"}
    graph = run(["cargo", *cargo, "--offline", "--unit-graph", "-Zunstable-options"], ws, env, **unstable)
    metadata = run(["cargo", "metadata", "--format-version", "1", "--offline"], ws, env)
    config = run(["cargo", "-Zunstable-options", "config", "get", "--format", "json"], ws, env, **unstable)
    names = {u["pkg_id"] for u in json.loads(graph)["units"]}
    packages = [p for p in json.loads(metadata)["packages"] if p["id"] in names]
    paths = {p["manifest_path"] for p in packages} | {os.path.join(ws, "Cargo.toml")}
    triples = {u["platform"] for u in json.loads(graph)["units"] if u["platform"]}
    # As cargo asks: with the rustflags of the platform; with --target, the host has none.
    cfg = {t: run(["rustc", "--print", "cfg", "--target", t, *(flags if t in triples or not triples else [])], ws, env)
           for t in triples | {host}}
    run(["cargo", *cargo, "--offline"], ws, env, CARGO_TARGET_DIR=target, VX_RECORD_LOG=log,
        RUSTC_WRAPPER=os.path.abspath(__file__), CARGO_INCREMENTAL="0")
    inherited = {*HOST_VARS, "VX_RECORD_LOG", "RUSTC_WRAPPER", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"}
    commands = []
    for name in sorted(glob.glob(os.path.join(log, "*.json"))):
        entry = json.load(open(name))
        entry["env"] = {k: v for k, v in sorted(entry["env"].items())
                        if k not in inherited and not k.startswith("RUSTUP") and "MAKEFLAGS" not in k and not k.startswith("SSL_CERT")
                        and k not in ("CARGO_HOME", "RUST_RECURSION_COUNT", "LC_CTYPE", "RUST_BACKTRACE")}
        commands.append(entry)
    commands.sort(key=lambda c: c["argv"])
    scripts = []
    for stdout in sorted(glob.glob(os.path.join(target, "**", "build", "*", "output"), recursive=True)):
        out = os.path.join(os.path.dirname(stdout), "out")
        entry = {"out_dir": out, "stdout": open(stdout).read()}
        dump = os.path.join(out, "environment")
        if os.path.exists(dump):
            pairs = (p.split("=", 1) for p in open(dump).read().split("\0"))
            entry["env"] = {k: v for k, v in sorted(pairs) if k not in inherited
                            and not k.startswith("RUSTUP") and "MAKEFLAGS" not in k and not k.startswith("SSL_CERT")
                            and k not in ("CARGO_HOME", "RUST_RECURSION_COUNT", "NUM_JOBS", "RUST_BACKTRACE")}
        scripts.append(entry)
    data = {"args": cargo, "client_env": dict(a.split("=", 1) for a in extra if not a.startswith("CONFIG_")), "rustc_version": rustc_vv,
            "cfg": cfg, "unit_graph": json.loads(graph), "config": json.loads(config),
            "metadata": {**json.loads(metadata), "packages": packages, "resolve": None},
            "manifests": {p: open(p).read() for p in sorted(paths) if os.path.exists(p)},
            "lock": open(os.path.join(ws, "Cargo.lock")).read(), "commands": commands, "scripts": scripts}
    text = json.dumps(data, indent=1, sort_keys=True)
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    for path, name in ((target, "$TARGET"), (ws, "$WS"), (project, "$ROOT"), (sysroot, "$SYSROOT"), (home, "$CARGO_HOME")):
        text = text.replace(path, name)
    assert root not in text, "a path of the machine is left"
    open(output, "w").write(text + "\n")
    shutil.rmtree(root)
    print(output, len(commands), "compilations,", len(scripts), "build scripts")

if "VX_RECORD_LOG" in os.environ:
    wrapper_main()
main()
