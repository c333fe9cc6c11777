fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let all: Vec<String> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
    std::fs::write(format!("{out}/environment"), all.join("\0")).unwrap();
    println!("cargo::rerun-if-env-changed=SHOP_COLOUR");
    println!("cargo::rustc-cfg=built");
    println!("cargo::rustc-check-cfg=cfg(built)");
    println!("cargo::rustc-env=SHOP_BUILD={}", the_model::price());
    println!("cargo::rustc-link-arg-bins=-Wl,--as-needed");
    println!("cargo::rustc-link-arg-bin=shop-tool=-Wl,-O1");
    println!("cargo::rustc-link-arg-tests=-Wl,-O1");
    println!("cargo::rustc-link-arg-examples=-Wl,-O2");
    println!("cargo::rustc-link-arg-benches=-Wl,--gc-sections");
    println!("cargo:rustc-link-search=/usr/lib");
}
