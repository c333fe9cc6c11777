#[no_mangle]
pub extern "C" fn shop_count() -> u32 {
    native::count()
}
