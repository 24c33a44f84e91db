//! Why work on an opened device failed, divided by what is done next.
//!
//! **Invariant:** a fault is about the device, never about the data.

/// Why a device could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A buffer did not fit: less work at a time may.
    OutOfMemory(String),
    /// The device answers no call of this process any more.
    Lost(String),
    /// All else: a source that does not compile, a launch that is refused.
    Other(String),
    /// Nobody waits for the work any more.
    Stopped,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfMemory(text) => write!(f, "out of device memory ({text})"),
            Self::Lost(text) => write!(f, "the device is lost ({text})"),
            Self::Other(text) => f.write_str(text),
            Self::Stopped => f.write_str("the work was stopped"),
        }
    }
}

impl From<crate::Error> for Fault {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Stopped => Self::Stopped,
            other => Self::Other(other.to_string()),
        }
    }
}
