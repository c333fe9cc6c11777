#[proc_macro_derive(Nothing)]
pub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let _ = excluded::answer();
    proc_macro::TokenStream::new()
}
