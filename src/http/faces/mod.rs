//! Faces: one folder per foreign API. A face never imports another face.

pub mod pocketbase;
