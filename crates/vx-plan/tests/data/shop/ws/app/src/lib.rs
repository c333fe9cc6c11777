pub fn total() -> u32 {
    the_model::price() + native::count()
}
#[derive(derive::Nothing)]
pub struct S;
