//! The few parts of protocol buffers' encoding that TensorBoard's events need.

/// A message that is written field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer.
    pub(super) fn integer(mut self, field: u64, value: i64) -> Self {
        self.key(field, 0);
        // Negative numbers are written in two's complement.
        self.varint(value as u64);
        self
    }

    /// A number of double precision.
    pub(super) fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A number of single precision.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes, a text, or a message.
    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_documentation_has_them() {
        assert_eq!(Message::default().integer(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, b"testing").0, b"\x12\x07testing");
        assert_eq!(Message::default().integer(1, -1).0.len(), 11);
        assert_eq!(Message::default().float(5, 1.0).0, [0x2d, 0, 0, 0x80, 0x3f]);
    }
}
