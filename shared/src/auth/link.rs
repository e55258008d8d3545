//! Tokens in the links of mails: `{id}.{HMAC}`. The id names a row, the HMAC proves that we made it; nothing secret is
//! stored, and the process that writes the mail needs no word from the one that asked for it.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::seal::DataKeys;

/// Makes and reads the tokens of links.
pub struct LinkTokens {
    keys: Vec<hmac::Key>,
}

impl LinkTokens {
    /// With keys derived from the data keys: the first signs, all are accepted.
    #[must_use]
    pub fn new(keys: &DataKeys) -> Self {
        let keys = keys.derive("mail-link");
        Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect() }
    }

    /// The token for the row `id`.
    #[must_use]
    pub fn make(&self, id: Uuid) -> String {
        let tag = self.keys.first().map(|key| hmac::sign(key, id.as_bytes()));
        format!("{id}.{}", tag.map(|tag| URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default())
    }

    /// The row a token of ours names; none when it is not ours. The comparison takes constant time.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<Uuid> {
        let (id, tag) = token.split_once('.')?;
        let id: Uuid = id.parse().ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        self.keys.iter().any(|key| hmac::verify(key, id.as_bytes(), &tag).is_ok()).then_some(id)
    }
}

impl fmt::Debug for LinkTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkTokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_name_a_row() {
        let line = DataKeys::generate_line();
        let ours = LinkTokens::new(&DataKeys::parse(&line).unwrap());
        let foreign = LinkTokens::new(&DataKeys::parse(&DataKeys::generate_line()).unwrap());
        let rotated = format!("{}{}", *DataKeys::generate_line(), *line);
        let rotated = LinkTokens::new(&DataKeys::parse(&rotated).unwrap());
        let id = Uuid::now_v7();
        let token = ours.make(id);
        assert_eq!(ours.read(&token), Some(id));
        assert_eq!(rotated.read(&token), Some(id));
        assert_eq!(foreign.read(&token), None);
        let other = format!("{}.{}", Uuid::now_v7(), token.split_once('.').unwrap().1);
        for bad in ["", ".", &id.to_string(), &format!("{id}."), &other, &token[..token.len() - 1]] {
            assert_eq!(ours.read(bad), None, "{bad}");
        }
    }
}
