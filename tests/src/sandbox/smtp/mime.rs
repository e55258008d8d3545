//! Just enough of MIME to read our own mail back: unfolded headers, encoded words, the plain part of a multipart.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the sink shows of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) message_id: String,
    pub(super) subject: String,
    pub(super) text: String,
}

pub(super) fn parse(raw: &str) -> Parsed {
    let (headers, body) = split(raw);
    let named = |name| header(&headers, name);
    Parsed {
        message_id: named("message-id").unwrap_or_default(),
        subject: decode_words(&named("subject").unwrap_or_default()),
        text: plain_part(&headers, body),
    }
}

/// Unfolded header lines, and what follows the empty line.
fn split(raw: &str) -> (Vec<String>, &str) {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
    let mut headers: Vec<String> = Vec::new();
    for line in head.split("\r\n") {
        match headers.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            _ => headers.push(line.to_owned()),
        }
    }
    (headers, body)
}

fn header(headers: &[String], name: &str) -> Option<String> {
    headers.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn plain_part(headers: &[String], body: &str) -> String {
    let kind = header(headers, "content-type").unwrap_or_else(|| "text/plain".to_owned());
    if let Some(boundary) = kind.split("boundary=").nth(1) {
        let boundary = boundary.trim_start_matches('"').split(['"', ';']).next().unwrap_or_default();
        let line = format!("--{boundary}");
        let plain =
            body.split(&line).skip(1).map(|part| split(part.trim_start_matches("\r\n"))).find(|(headers, _)| {
                header(headers, "content-type").is_some_and(|kind| kind.starts_with("text/plain"))
            });
        return plain.map(|(headers, body)| plain_part(&headers, body)).unwrap_or_default();
    }
    let decoded = match header(headers, "content-transfer-encoding").unwrap_or_default().to_ascii_lowercase().as_str() {
        "base64" => {
            let packed: String = body.split_whitespace().collect();
            STANDARD.decode(packed).unwrap_or_default()
        }
        "quoted-printable" => quoted_printable(&body.replace("=\r\n", "")),
        _ => body.as_bytes().to_vec(),
    };
    String::from_utf8_lossy(&decoded).replace("\r\n", "\n").trim_end().to_owned()
}

fn quoted_printable(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
        bytes.extend(hex::decode(pair).unwrap_or_default());
    }
    bytes
}

/// RFC 2047: `=?utf-8?b?…?=` and `=?utf-8?q?…?=`; blanks between two encoded words do not count.
fn decode_words(text: &str) -> String {
    let mut out = String::new();
    let mut last_was_encoded = false;
    for (index, word) in text.split(' ').enumerate() {
        let decoded = decode_word(word);
        if index > 0 && !(last_was_encoded && decoded.is_some()) {
            out.push(' ');
        }
        last_was_encoded = decoded.is_some();
        out.push_str(&decoded.unwrap_or_else(|| word.to_owned()));
    }
    out
}

fn decode_word(word: &str) -> Option<String> {
    let mut fields = word.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?');
    let (_, encoding, text) = (fields.next()?, fields.next()?, fields.next()?);
    let bytes = match encoding {
        "b" | "B" => STANDARD.decode(text).ok()?,
        "q" | "Q" => quoted_printable(&text.replace('_', " ")),
        _ => return None,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_mail_is_read_back() {
        let raw = "Message-ID: <1@x.com>\r\nSubject: =?utf-8?b?4oKsNS4wMA==?= cashback\r\n =?utf-8?q?at_Caf=C3=A9?=\r\n\
                   MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary=\"b\"\r\n\r\n\
                   --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                   =E2=82=AC5.00 at=\r\n Shoply\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n--b--\r\n";
        let parsed = parse(raw);
        assert_eq!(parsed.message_id, "<1@x.com>");
        assert_eq!(parsed.subject, "€5.00 cashback at Café");
        assert_eq!(parsed.text, "€5.00 at Shoply");
    }
}
