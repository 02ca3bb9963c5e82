//! Comparing bytes as a filter must: in wasm `memcmp` takes them one by one, and at every request a dozen
//! names and values are compared.

/// Whether two texts are equal. Several bytes are taken at a time; those in the middle twice where the
/// length is no multiple.
#[inline]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if let (Some(first), Some(last)) = (one.first_chunk(), one.last_chunk()) {
        let ends = other.first_chunk().zip(other.last_chunk());
        return ends.is_some_and(|(other_first, other_last)| {
            number(first) == number(other_first) && number(last) == number(other_last)
        }) && (one.len() <= 16 || one == other);
    }
    match (one.first_chunk::<4>(), one.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            other.first_chunk() == Some(first) && other.last_chunk() == Some(last)
        }
        _ => one.iter().eq(other),
    }
}

#[inline]
fn number(word: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_differ_by_any_byte() {
        for length in 0..40 {
            let text: Vec<u8> = (0..length).collect();
            assert!(same(&text, &text.clone()), "{length}");
            assert!(!same(&text, &[text.as_slice(), b"x"].concat()), "{length}");
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 0x80;
                assert!(!same(&text, &other), "{length} bytes, at {at}");
            }
        }
    }
}
