//! What the program prints, line by line in our log.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// A longer line is cut into several.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Logs lines until the end. The program's private address is shown as ours: it is of no use
/// to whoever reads the log, and its links are.
pub(super) async fn follow(output: impl AsyncRead + Unpin, private: String, public: String) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line).trim_end().replace(&private, &public);
        if !text.is_empty() {
            tracing::info!(target: "child", program = true, "{text}");
        }
    }
}
