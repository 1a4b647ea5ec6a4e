//! What holds for any text and any bytes of a status.

use proptest::prelude::*;

use super::*;
use crate::encoding::seeded;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(text: &str) -> Vec<u8> {
    let places = text.chars().map(|letter| ALPHABET.find(letter).expect("a letter of base64"));
    let bits = places.map(|place| format!("{place:06b}")).collect::<Vec<_>>().concat();
    let whole = bits.len() / 8 * 8;
    assert!(bits[whole..].bytes().all(|bit| bit == b'0'), "what is left over is padding");
    (0..whole).step_by(8).map(|place| u8::from_str_radix(&bits[place..place + 8], 2).unwrap()).collect()
}

fn from_percent(text: &str) -> Vec<u8> {
    let (mut bytes, mut letters) = (Vec::new(), text.bytes());
    while let Some(letter) = letters.next() {
        if letter == b'%' {
            let digits = [letters.next().unwrap(), letters.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(letter);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn base64_is_read_back(bytes: Vec<u8>) {
        prop_assert_eq!(from_base64(&base64(&bytes)), bytes);
    }

    #[test]
    fn percent_encoded_text_is_read_back_and_may_stand_in_a_header(text in any::<String>()) {
        let encoded = percent_encoded(&text);
        prop_assert!(encoded.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(from_percent(&encoded), text.as_bytes());
    }

    #[test]
    fn a_text_is_whole_or_cut_to_what_may_be(part in "\\PC{1,4}", times in 1..2000_usize) {
        let text = part.repeat(times);
        let status = Status::refusal(3, "REASON", &text, Some(0.5));
        prop_assert!(status.text.len() <= MAX_TEXT_BYTES);
        prop_assert!(status.text == text || text.starts_with(status.text.strip_suffix(" ...").unwrap()));
    }
}
