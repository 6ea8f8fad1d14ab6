//! Regular expressions for paths that a policy doesn't look at.

use regex::RegexSet;

/// The most memory that all expressions together may be compiled to.
const COMPILED_BYTES: usize = 16 << 20;

/// An expression that isn't one, or is too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expression:?} is no regular expression that can be evaluated in linear time: {reason}")]
pub struct ExcludeError {
    /// The expression.
    pub expression: String,
    /// What the parser said.
    pub reason: String,
}

/// Expressions, each of which excludes the paths that it matches from their start.
#[derive(Clone, Debug)]
pub struct Excludes {
    texts: Vec<String>,
    set: RegexSet,
}

impl Excludes {
    /// Compiles the expressions.
    ///
    /// # Errors
    /// [`ExcludeError`] for the first one that can't be.
    pub fn parse(texts: Vec<String>) -> Result<Self, ExcludeError> {
        let anchored = |text: &String| format!(r"\A(?:{text})");
        for text in &texts {
            // Alone first: what is only part of an expression must not become one by the anchor around it.
            let alone = regex::Regex::new(text).and_then(|_| regex::Regex::new(&anchored(text)));
            alone.map_err(|error| refused(text, &error))?;
        }
        let set = regex::RegexSetBuilder::new(texts.iter().map(anchored))
            .size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| refused("all together", &error))?;
        Ok(Self { texts, set })
    }

    /// Whether a path is excluded.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// The expressions as they were given.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

fn refused(expression: &str, error: &regex::Error) -> ExcludeError {
    // The parser draws the place over several lines; its last one says what is wrong.
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    ExcludeError {
        expression: expression.to_owned(),
        reason: last.trim_start_matches("error: ").to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_from_its_start() {
        let rows = [
            ("a directory", "/tmp/.*", "/tmp/x", true),
            ("the start suffices", "/tmp/", "/tmp/x/y", true),
            ("not the middle", "/tmp/", "/var/tmp/x", false),
            ("one of two", "/a|/b", "/b", true),
            ("both from the start", "/a|/b", "/x/b", false),
        ];
        for (name, expression, path, wanted) in rows {
            let excludes = Excludes::parse(vec![expression.to_owned()]).unwrap();
            assert_eq!(excludes.matches(path), wanted, "{name}");
        }
        assert!(!Excludes::parse(Vec::new()).unwrap().matches("/a"));
        for expression in ["(", "a)(b", r"(a)\1", "(?=a)", "x{1000}{1000}{1000}"] {
            let error = Excludes::parse(vec![expression.to_owned()]).unwrap_err();
            assert_eq!(error.expression, expression);
        }
    }
}
