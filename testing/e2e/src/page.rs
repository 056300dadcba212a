//! What the documentation tells people to type.

/// The contents of the fenced blocks of a Markdown page whose info string is exactly `language`, in order.
pub fn shell_blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<Option<String>> = None;
    for line in page.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == language).then(String::new)),
            (Some(block), Some("")) => {
                blocks.extend(block.take());
                open = None;
            }
            (Some(Some(block)), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (Some(None), _) | (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block is not closed");
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the tour would be tested in part, or with its example output as commands.
    #[test]
    fn only_blocks_of_the_language_are_taken_whole() {
        let page = "a\n```sh\none\n\ntwo\n```\n```text\nno\n```\n```shell\nno\n```\n```sh\nthree\n```\n";
        assert_eq!(shell_blocks(page, "sh"), ["one\n\ntwo\n", "three\n"]);
    }
}
