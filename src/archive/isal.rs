//! ISA-L's Deflate behind a safe face: one stream object, used for one block at a time.

#![expect(unsafe_code, reason = "ISA-L is a C library")]

use isal_sys::igzip_lib as c;

use crate::error::{Error, Result};

/// The highest level there is.
pub(super) const LEVEL_MAX: u32 = 3;

/// A compressor. It holds pointers into its own heap memory and stays on its thread.
pub(super) struct Stream {
    stream: Box<c::isal_zstream>,
    tables: Vec<u8>,
}

impl Stream {
    /// A compressor of `level` 1 to [`LEVEL_MAX`].
    pub(super) fn new(level: u32) -> Self {
        let level = level.clamp(1, LEVEL_MAX);
        let tables_bytes = match level {
            1 => c::ISAL_DEF_LVL1_DEFAULT,
            2 => c::ISAL_DEF_LVL2_DEFAULT,
            _ => c::ISAL_DEF_LVL3_DEFAULT,
        };
        // SAFETY: a C struct of integers, arrays and pointers, for all of which zero is valid;
        // `isal_deflate_init` then writes every field that it reads later.
        let mut stream: Box<c::isal_zstream> = unsafe { Box::new(std::mem::zeroed()) };
        // SAFETY: the pointer is valid and exclusive.
        unsafe { c::isal_deflate_init(&raw mut *stream) };
        stream.level = level;
        stream.level_buf_size = tables_bytes;
        Self { stream, tables: vec![0; tables_bytes as usize] }
    }

    /// See [`crate::archive::deflate::Deflater::block`].
    pub(super) fn block(
        &mut self,
        before: &[u8],
        input: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (Ok(before_bytes), Ok(input_bytes)) =
            (u32::try_from(before.len()), u32::try_from(input.len()))
        else {
            return Err(Error::internal("a block is too large for the compressor"));
        };
        let stream = &mut *self.stream;
        // SAFETY: initialised in `new`; a reset keeps level and table size.
        unsafe { c::isal_deflate_reset(stream) };
        stream.level_buf = self.tables.as_mut_ptr();
        stream.end_of_stream = u16::from(last);
        stream.flush = if last { c::NO_FLUSH } else { c::SYNC_FLUSH } as u16;
        // The library never writes through these two, though its types do not say so.
        stream.next_in = input.as_ptr().cast_mut();
        stream.avail_in = input_bytes;
        if before_bytes > 0 {
            // SAFETY: reads `before_bytes` bytes of `before` and copies them.
            let code = unsafe {
                c::isal_deflate_set_dict(stream, before.as_ptr().cast_mut(), before_bytes)
            };
            check(code)?;
        }
        out.reserve(input.len() / 2 + 1024);
        loop {
            let spare = out.spare_capacity_mut();
            let offered = u32::try_from(spare.len()).unwrap_or(u32::MAX);
            stream.next_out = spare.as_mut_ptr().cast();
            stream.avail_out = offered;
            // SAFETY: reads at most `avail_in` bytes from `next_in`, which lies in `input`,
            // writes at most `avail_out` bytes to `next_out`, and uses `level_buf`, which is
            // `level_buf_size` bytes of `tables`; all three outlive the call.
            let code = unsafe { c::isal_deflate(stream) };
            check(code)?;
            let made = (offered - stream.avail_out) as usize;
            // SAFETY: the library has written `made` bytes from the old length on.
            unsafe { out.set_len(out.len() + made) };
            // Room left over means that all input is compressed and flushed.
            if stream.avail_out > 0 {
                break;
            }
            out.reserve(input.len() / 4 + 1024);
        }
        if stream.avail_in > 0 {
            return Err(Error::internal("the compressor stopped early"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("level", &self.stream.level).finish_non_exhaustive()
    }
}

fn check(code: i32) -> Result<()> {
    if code == c::COMP_OK as i32 {
        return Ok(());
    }
    Err(Error::internal(format!("the compressor failed with code {code}")))
}
