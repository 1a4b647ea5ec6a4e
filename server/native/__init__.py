"""The native transport: its Python side is `transport`, the Rust crate beside it is built into the wheel `tidegate-native`."""
