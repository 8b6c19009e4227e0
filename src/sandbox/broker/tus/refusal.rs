//! Refusals of the TUS endpoints: plain text, the bare message.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};

use super::desk::MAX_BLOCKS;
use super::headers::{TUS_RESUMABLE, TUS_VERSION, VERSION};
use crate::sandbox::problem::{Fault, answer, bare};

/// Why a TUS request was not done.
#[derive(Debug)]
pub(super) enum Refused {
    /// By access control.
    Access(Fault),
    /// The path names no transfer.
    NoId,
    /// The request is none of the protocol's.
    NotTus,
    /// There is no such upload.
    NoUpload,
    /// An exception that nobody handled.
    Unhandled,
    /// Another version of the protocol.
    Version(String),
    /// Another request has the upload.
    Locked,
    /// The body's type.
    ContentType(String),
    /// A header is missing, wrong or not allowed; the text says which.
    Header(String),
    /// The target is made of partial uploads.
    Final,
    /// The offset is not the one up to which bytes were accepted.
    Offset { file: u64, request: u64 },
    /// There is nothing to be uploaded.
    Complete,
    /// The body does not fit.
    TooMuch,
    /// `Upload-Checksum`; it never matches.
    Checksum,
    /// The limits of the transfer.
    TooLarge,
    /// Partial uploads cannot be joined; the text says why.
    Concat(String),
    /// The store gave up; the text says why.
    Store(String),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Access(fault) => fault.status(),
            Self::NoId | Self::NotTus | Self::NoUpload => StatusCode::NOT_FOUND,
            Self::Unhandled => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Version(_) => StatusCode::PRECONDITION_FAILED,
            Self::Locked => StatusCode::LOCKED,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Final => StatusCode::FORBIDDEN,
            Self::Offset { .. } => StatusCode::CONFLICT,
            Self::TooMuch => StatusCode::PAYLOAD_TOO_LARGE,
            // A status of the protocol's own, without a name.
            Self::Checksum => StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Complete | Self::TooLarge | Self::Header(_) | Self::Concat(_) | Self::Store(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    fn text(self) -> String {
        match self {
            Self::Access(fault) => fault.text().to_owned(),
            Self::NoId => "Missing file transfer id".to_owned(),
            Self::NotTus | Self::NoUpload | Self::Unhandled => String::new(),
            Self::Version(version) => {
                format!("Tus version {version} is not supported. Supported versions: {VERSION}")
            }
            Self::Locked => "File is currently being updated. Please try again later".to_owned(),
            Self::ContentType(given) => {
                format!("Content-Type {given} is invalid. Must be application/offset+octet-stream")
            }
            Self::Final => r#"File with "Upload-Concat: final" cannot be patched"#.to_owned(),
            Self::Offset { file, request } => {
                format!("Offset does not match file. File offset: {file}. Request offset: {request}")
            }
            Self::Complete => "Upload is already complete.".to_owned(),
            Self::TooMuch => "Request contains more data than the file's upload length".to_owned(),
            Self::Checksum => "Header Upload-Checksum does not match the checksum of the file".to_owned(),
            Self::TooLarge => Fault::TooLarge.text().to_owned(),
            Self::Header(text) | Self::Concat(text) | Self::Store(text) => text,
        }
    }

    /// The answer. What authorization refuses lacks `Tus-Resumable`; what the protocol's library
    /// refuses has it.
    pub(super) fn into_response(self) -> Response<Body> {
        let by_library = !matches!(self, Self::Access(_) | Self::NoId | Self::NotTus);
        let wrong_version = matches!(self, Self::Version(_));
        let status = self.status();
        let text = self.text();
        let mut response = if text.is_empty() { bare(status) } else { answer(status, "text/plain", text) };
        if by_library {
            response.headers_mut().insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
        }
        if wrong_version {
            response.headers_mut().insert(TUS_VERSION, HeaderValue::from_static(VERSION));
        }
        response
    }

    /// More chunks than a blob has room for.
    pub(super) fn too_many_chunks(id: &str, length: u64) -> Self {
        let least = length.div_ceil(MAX_BLOCKS).max(1);
        Self::Store(format!(
            "Upload exceeds maximum block count ({MAX_BLOCKS}) for file id {id}. Increase TUS chunk size to at least {least} bytes."
        ))
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Access(fault)
    }
}
