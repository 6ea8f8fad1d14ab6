//! Where unpacked files go.

/// Receives an archive's tree, one entry after the other.
///
/// Paths are relative, `/`-separated, free of `.` and `..`, checked against the archive's rules before the first call, and
/// no path comes twice. A parent directory may come without an entry of its own, or after what is in it. What was received
/// counts only when the shell commits it: after an error nothing more comes, and everything is thrown away.
pub trait Sink {
    /// What can go wrong while writing.
    type Error;

    /// A directory with these permission bits (within 0o777).
    ///
    /// # Errors
    /// The sink's own.
    fn directory(&mut self, path: &str, mode: u32) -> Result<(), Self::Error>;

    /// A file begins, with these permission bits (within 0o777) and this size in bytes.
    ///
    /// # Errors
    /// The sink's own.
    fn file(&mut self, path: &str, mode: u32, size: u64) -> Result<(), Self::Error>;

    /// The next bytes of the file that began last.
    ///
    /// # Errors
    /// The sink's own.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The file that began last is complete, and its CRC was right.
    ///
    /// # Errors
    /// The sink's own.
    fn end(&mut self) -> Result<(), Self::Error>;
}
