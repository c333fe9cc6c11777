fn main() {
    println!("{} {}", shop_app::total(), env!("SHOP_BUILD"));
}
