pub fn count() -> u32 {
    4
}
