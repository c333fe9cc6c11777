#[test]
fn runs() {
    assert!(!env!("CARGO_BIN_EXE_shop-tool").is_empty());
}
