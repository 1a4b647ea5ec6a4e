//! The elements of a tensor as numbers, whatever its datatype: as the singles that bins are compared with, and as what a category is known by.

/// A number as it stands in a tensor: little-endian.
pub trait Number: Copy + PartialOrd {
    const SIZE: usize;

    /// The number that `bytes`, which are enough, begin with.
    fn read(bytes: &[u8]) -> Self;

    /// The nearest single, infinite beyond the largest; not a number where it is none.
    fn single(self) -> f32;

    /// What tells it from all other numbers of its datatype: the bits of a double, or of an integer of 64 bits. `None` if it is not a number.
    fn key(self) -> Option<u64>;
}

/// A half-precision float, which single precision holds exactly.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Half(f32);

/// A byte of which all but zero is true.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Truth(bool);

impl Number for Half {
    const SIZE: usize = 2;

    fn read(bytes: &[u8]) -> Self {
        Half(widened(u16::read(bytes)))
    }

    fn single(self) -> f32 {
        self.0
    }

    fn key(self) -> Option<u64> {
        self.0.key()
    }
}

impl Number for Truth {
    const SIZE: usize = 1;

    fn read(bytes: &[u8]) -> Self {
        Truth(bytes[0] != 0)
    }

    fn single(self) -> f32 {
        f32::from(u8::from(self.0))
    }

    fn key(self) -> Option<u64> {
        Some(u64::from(self.0))
    }
}

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Number for $float {
            const SIZE: usize = size_of::<$float>();

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                bytes.first_chunk().copied().map_or(<$float>::NAN, <$float>::from_le_bytes)
            }

            #[inline]
            #[allow(clippy::cast_lossless, reason = "lossless for some, and the nearest single for all")]
            fn single(self) -> f32 {
                self as f32
            }

            fn key(self) -> Option<u64> {
                (!self.is_nan()).then(|| f64::from(self).to_bits())
            }
        }
    )*};
}

macro_rules! integers {
    ($($integer:ty as $wide:ty),*) => {$(
        impl Number for $integer {
            const SIZE: usize = size_of::<$integer>();

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                bytes.first_chunk().copied().map_or(0, <$integer>::from_le_bytes)
            }

            #[inline]
            #[allow(clippy::cast_lossless, reason = "lossless for some, and the nearest single for all")]
            fn single(self) -> f32 {
                self as f32
            }

            fn key(self) -> Option<u64> {
                Some(<$wide>::from(self) as u64)
            }
        }
    )*};
}

floats!(f32, f64);
integers!(u8 as u64, u16 as u64, u32 as u64, u64 as u64, i8 as i64, i16 as i64, i32 as i64, i64 as i64);

/// A half-precision float in single precision: IEEE 754, 1 bit of sign, 5 of exponent, 10 of fraction.
fn widened(half: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(half >> 15) << 31, u32::from(half >> 10) & 31, u32::from(half) & 1023);
    let magnitude = match exponent {
        0 => (fraction as f32 / (1 << 24) as f32).to_bits(),
        31 => (255 << 23) | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// `$body` with `$number` as the type of the elements of this datatype; `None` for texts.
macro_rules! with_numbers {
    ($datatype:expr, $number:ident => $body:expr) => {
        with_numbers!($datatype, $number => $body, Bool: $crate::numbers::Truth, Uint8: u8, Uint16: u16, Uint32: u32, Uint64: u64,
            Int8: i8, Int16: i16, Int32: i32, Int64: i64, Fp16: $crate::numbers::Half, Fp32: f32, Fp64: f64)
    };
    ($datatype:expr, $number:ident => $body:expr, $($name:ident: $type:ty),*) => {
        match $datatype {
            $($crate::tensors::Datatype::$name => {
                type $number = $type;
                Some($body)
            })*
            $crate::tensors::Datatype::Bytes => None,
        }
    };
}
pub(crate) use with_numbers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_what_their_bits_say() {
        let cases = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(widened(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(widened(0x7e00).is_nan() && widened(0xfc01).is_nan());
    }

    #[test]
    fn numbers_of_all_sizes_have_keys_that_tell_them_apart() {
        assert_eq!((-1_i8).key(), (-1_i64).key());
        assert_ne!((-1_i64).key(), 1_i64.key());
        assert_eq!(u64::MAX.key(), Some(u64::MAX));
        assert_eq!(0.1_f32.key(), Some(f64::from(0.1_f32).to_bits()));
        assert_ne!((-0.0_f64).key(), 0.0_f64.key());
        assert_eq!(f64::NAN.key(), None);
    }

    #[test]
    fn doubles_beyond_the_singles_are_infinite() {
        assert_eq!(f64::read(&1e300_f64.to_le_bytes()).single().to_bits(), f32::INFINITY.to_bits());
        assert_eq!(f64::read(&(-1e300_f64).to_le_bytes()).single().to_bits(), f32::NEG_INFINITY.to_bits());
    }

    #[test]
    fn every_byte_but_zero_is_true() {
        for byte in 0..=255 {
            assert_eq!(Truth::read(&[byte]).key(), Some(u64::from(byte != 0)));
        }
    }
}
