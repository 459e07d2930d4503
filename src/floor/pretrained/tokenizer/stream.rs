//! Text of tokens that come one by one.

use super::{ModelTokenizer, TokenizerError};

/// Most tokens without a whole character: an invalid sequence of bytes is shown as it is.
const MOST_PENDING: usize = 16;

/// Decodes tokens one by one: a part is given out once its characters are whole. All parts together are
/// [`ModelTokenizer::decode_generated`] of all tokens.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    tokens: Vec<u32>,
    /// Start of the tokens that are decoded with the next ones: a token's text can depend on the one before it.
    context: usize,
    /// Tokens whose text was given out.
    given: usize,
}

impl TextStream {
    /// Adds a token; returns the characters that are whole now. Error: the tokenizer's.
    pub fn push(&mut self, token: u32, tokenizer: &ModelTokenizer) -> Result<String, TokenizerError> {
        self.tokens.push(token);
        self.part(tokenizer, self.tokens.len() - self.given >= MOST_PENDING)
    }

    /// The rest, after the last token. Error: the tokenizer's.
    pub fn finish(&mut self, tokenizer: &ModelTokenizer) -> Result<String, TokenizerError> {
        self.part(tokenizer, true)
    }

    fn part(&mut self, tokenizer: &ModelTokenizer, is_due: bool) -> Result<String, TokenizerError> {
        let known = tokenizer.decode_generated(&self.tokens[self.context..self.given])?;
        let all = tokenizer.decode_generated(&self.tokens[self.context..])?;
        let is_whole = all.len() > known.len() && !all.ends_with('\u{FFFD}');
        if !is_whole && !is_due {
            return Ok(String::new());
        }
        let part = all.strip_prefix(known.as_str()).unwrap_or_default().to_owned();
        self.context = self.given;
        self.given = self.tokens.len();
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::Checkpoint;

    #[test]
    fn the_parts_are_the_whole_text_and_no_part_ends_within_a_character() {
        let model = std::env::var_os("LORAGRID_TEST_MODEL").map(std::path::PathBuf::from);
        // `make` names the file before `setup` has brought it, and a bare clone is tested without it.
        let Some(model) = model.filter(|model| model.is_file()) else {
            println!("skipped: LORAGRID_TEST_MODEL names no file");
            return;
        };
        let checkpoint = Checkpoint::open(&model).unwrap();
        let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
        let texts = ["Hello, world.\n  two  spaces", "naïve café 日本語 👩‍🚀🏽 end", "", " 🦀", "a\u{FFFD}b"];
        for text in texts {
            let tokens = tokenizer.encode(text, false).unwrap();
            let mut stream = TextStream::default();
            let mut parts: Vec<String> =
                tokens.iter().map(|token| stream.push(*token, &tokenizer).unwrap()).collect();
            parts.push(stream.finish(&tokenizer).unwrap());
            assert_eq!(parts.concat(), tokenizer.decode_generated(&tokens).unwrap());
            if !text.contains('\u{FFFD}') {
                assert!(parts.iter().all(|part| !part.contains('\u{FFFD}')), "{parts:?}");
            }
        }
        // The first bytes of a character that never comes.
        let crab = tokenizer.encode("🦀", false).unwrap();
        let mut stream = TextStream::default();
        let first = stream.push(crab[0], &tokenizer).unwrap();
        let rest = stream.finish(&tokenizer).unwrap();
        assert_eq!((first.as_str(), rest), ("", tokenizer.decode_generated(&crab[..1]).unwrap()));
    }
}
