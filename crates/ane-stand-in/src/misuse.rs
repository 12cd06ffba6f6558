//! What the library refuses.

/// Why a call fails; its number is the status that the call returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[repr(i64)]
pub enum Misuse {
    /// A place, for a new object or a pointer, that is null.
    #[error("the place is null")]
    NullPlace = 1,
    /// An object that is null.
    #[error("the object is null")]
    NullObject,
    /// A string that is null.
    #[error("the string is null")]
    NullText,
    /// A string that is not UTF-8, or empty.
    #[error("the string is empty or not UTF-8")]
    BadText,
    /// A pointer that no call gave.
    #[error("no call gave this object")]
    UnknownObject,
    /// An object that was released.
    #[error("the object was released before")]
    ReleasedObject,
    /// An object of another kind than the call takes.
    #[error("the object is a {0}, not a {1}")]
    WrongKind(&'static str, &'static str),
    /// A release of an object that others were made of, and that are not released.
    #[error("the {0} is in use by {1} objects that must be released before it")]
    InUse(&'static str, usize),
    /// A mask with bits that mean nothing, or without any.
    #[error("the mask {0:#x} is not a sum of CPU 1, GPU 2 and engine 4")]
    WrongMask(u64),
    /// A flag that is neither 0 nor 1.
    #[error("the flag is {0}, not 0 or 1")]
    WrongFlag(i64),
    /// A segmenter that there is not.
    #[error("there is no segmenter {0:?}")]
    UnknownSegmenter(String),
    /// Compiler options of a chip that are not of the form `TargetArchitecture=NAME`.
    #[error("{0:?} is no option of the engine's compiler")]
    UnknownOption(String),
    /// A directory that there is not.
    #[error("there is no directory {0:?}")]
    MissingDirectory(String),
    /// A compiler whose bundles have no directory.
    #[error("the compiler was not told where to keep bundles")]
    NoCacheLocation,
    /// A compilation without a mask.
    #[error("the options do not say what the program may run on")]
    NoMask,
    /// A file that cannot be read, or is no `.mil` file.
    #[error("{0:?} is no `.mil` file that can be read")]
    MissingFile(String),
    /// A program that the compiler refuses.
    #[error("the program does not compile: {0}")]
    Compilation(String),
    /// A compilation soon after one that failed.
    #[error("another compilation failed a moment ago")]
    TooSoon,
    /// A compilation too many.
    #[error("this process has no compilation left")]
    NoCompilationLeft,
    /// A function that the program does not have.
    #[error("the program has no function {0:?}")]
    UnknownFunction(String),
    /// A program compiled for another chip, which does not run on this one.
    #[error("the program was compiled for another chip")]
    OtherChip,
    /// An operation without a name.
    #[error("the operation has no name")]
    NoName,
    /// A port that the operation does not have.
    #[error("the operation has no such port: {0:?}")]
    UnknownPort(String),
    /// A buffer whose size is not a multiple of 64, or is 0.
    #[error("a buffer of {0} bytes: at least 64, a multiple of 64 and no more than there is memory for")]
    BufferSize(u64),
    /// A buffer of another type than 0.
    #[error("there are no buffers of the type {0}")]
    BufferType(u32),
    /// A buffer too small for its port.
    #[error("the port takes {0} bytes, and the buffer has {1}")]
    BufferTooSmall(usize, usize),
    /// A bound buffer after the first run.
    #[error("the operation has run already, with the buffers that it had")]
    BoundTooLate,
    /// An operation with a port that has no buffer.
    #[error("the port {0:?} has no buffer")]
    UnboundPort(String),
    /// A second encoding without a reset.
    #[error("it is encoded already")]
    EncodedTwice,
    /// An encoding after a reset, without preparing the operation.
    #[error("the operation was not prepared for another encoding")]
    NotPrepared,
    /// A reset or run of a stream, or preparation of an operation, that was never encoded.
    #[error("it was never encoded")]
    NeverEncoded,
    /// An operation prepared for encoding while a stream has it.
    #[error("a stream has the operation: it must be reset before")]
    StillEncoded,
    /// A run that fails.
    #[error("the run fails: {0}")]
    Run(String),
}

impl Misuse {
    /// The status that a call returns.
    pub fn status(&self) -> i64 {
        // SAFETY: the enum is `repr(i64)`, so each value begins with its number.
        unsafe { *std::ptr::from_ref(self).cast::<i64>() }
    }
}
