pub fn q() {}
