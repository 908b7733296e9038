//! As much of Protocol Buffers' encoding as reading a few strings and numbers out of messages takes.

/// What a message is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It ends within a field.
    #[error("a message ends within a field")]
    CutOff,
    /// A number has more than 64 bits.
    #[error("a number of a message has more than 64 bits")]
    TooLong,
    /// A field has a type that does not exist (any more).
    #[error("a field of a message has the unknown wire type {0}")]
    WireType(u64),
}

/// A field's value; numbers of fixed length are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message in order, with their numbers.
///
/// # Errors
/// If the message is not well formed.
pub fn fields(mut message: &[u8]) -> Result<Vec<(u64, Field<'_>)>, ProtobufError> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let number = key >> 3;
        match key & 7 {
            0 => fields.push((number, Field::Number(varint(&mut message)?))),
            1 => drop(take(&mut message, 8)?),
            2 => {
                let length = varint(&mut message)?;
                fields.push((number, Field::Bytes(take(&mut message, length)?)));
            }
            5 => drop(take(&mut message, 4)?),
            other => return Err(ProtobufError::WireType(other)),
        }
    }
    Ok(fields)
}

/// The messages in a repeated field.
///
/// # Errors
/// If the message is not well formed.
pub fn repeated(message: &[u8], number: u64) -> Result<Vec<&[u8]>, ProtobufError> {
    let bytes = |(found, field)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    };
    Ok(fields(message)?.into_iter().filter_map(bytes).collect())
}

/// The string or message in a field; empty if it is not there.
///
/// # Errors
/// If the message is not well formed.
pub fn single(message: &[u8], number: u64) -> Result<&[u8], ProtobufError> {
    Ok(repeated(message, number)?.pop().unwrap_or_default())
}

/// The number in a field; 0 if it is not there.
///
/// # Errors
/// If the message is not well formed.
pub fn number(message: &[u8], number: u64) -> Result<u64, ProtobufError> {
    let value = |(found, field)| match field {
        Field::Number(value) if found == number => Some(value),
        _ => None,
    };
    Ok(fields(message)?.into_iter().filter_map(value).next_back().unwrap_or_default())
}

fn varint(message: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first().ok_or(ProtobufError::CutOff)?;
        *message = rest;
        if shift == 63 && byte > 1 {
            return Err(ProtobufError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::TooLong)
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], ProtobufError> {
    let length = usize::try_from(length).map_err(|_| ProtobufError::CutOff)?;
    let (taken, rest) = message.split_at_checked(length).ok_or(ProtobufError::CutOff)?;
    *message = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_other_types_skipped() {
        // 1: "ab", 4: 300, 9 (64 bits), 10 (32 bits), 1: "c"
        let message = b"\x0a\x02ab\x20\xac\x02\x4912345678\x551234\x0a\x01c";
        assert_eq!(repeated(message, 1).unwrap(), [b"ab".as_slice(), b"c"]);
        assert_eq!(single(message, 1).unwrap(), b"c", "the last one counts");
        assert_eq!(number(message, 4).unwrap(), 300);
        assert_eq!((single(message, 7).unwrap(), number(message, 7).unwrap()), (b"".as_slice(), 0));
        assert_eq!(number(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1).unwrap(), u64::MAX);
    }

    #[test]
    fn what_is_no_message_is_refused_wherever_it_is_cut() {
        let message = b"\x0a\x02ab\x20\xac\x02";
        for length in [1, 2, 3, 5, 6] {
            assert_eq!(fields(&message[..length]), Err(ProtobufError::CutOff), "{length}");
        }
        assert_eq!(fields(b"\x0b"), Err(ProtobufError::WireType(3)));
        assert_eq!(fields(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), Err(ProtobufError::TooLong));
        assert_eq!(fields(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Err(ProtobufError::CutOff));
    }
}
