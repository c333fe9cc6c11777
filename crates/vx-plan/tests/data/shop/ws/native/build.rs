fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let all: Vec<String> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
    std::fs::write(format!("{out}/environment"), all.join("\0")).unwrap();
    println!("cargo::metadata=include-dir={out}/include");
    println!("cargo:root={out}");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo::rustc-link-search=/usr/local/lib");
    println!("cargo::rustc-flags=-l dylib=m -L /opt/none");
    println!("cargo::rustc-link-lib=dylib=c");
    println!("cargo::rustc-link-arg-cdylib=-Wl,--as-needed");
    println!("cargo::warning=hello");
}
