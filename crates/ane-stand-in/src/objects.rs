//! The objects that are alive.
//!
//! What callers hold are numbers in pointers' clothes: they are looked up, never followed, so that a pointer that was
//! never given, or is of an object that was released, is found out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anemone_mil::runtime::Executable;

use crate::memory::Memory;
use crate::misuse::Misuse;
use crate::programs::Compiled;
use crate::settings::Settings;

/// The number of an object.
pub(crate) type Id = usize;

/// Objects are this far apart, as if something were there.
const STEP: Id = 64;

/// Everything that the library knows.
#[derive(Default)]
pub(crate) struct State {
    pub settings: Settings,
    /// Compilations begun.
    pub compilations: u32,
    /// Nothing compiles before.
    pub not_before: Option<Instant>,
    /// Runs begun.
    pub runs: u64,
    objects: BTreeMap<Id, Entry>,
    last: Id,
}

struct Entry {
    object: Object,
    /// The objects that this one was made of, or needs: none of them is released before it.
    needs: Vec<Id>,
}

/// An object.
pub(crate) enum Object {
    Config { directory: Option<PathBuf> },
    Compiler { directory: Option<PathBuf> },
    CompilerOptions { mask: Option<u64>, architecture: Option<String> },
    Library(Arc<Compiled>),
    Function { compiled: Arc<Compiled>, name: String },
    OperationOptions { compiled: Arc<Compiled>, function: String, name: Option<String> },
    Operation(Operation),
    Port { operation: Id, way: Way, index: usize },
    Buffer(Memory),
    Stream { operation: Option<Id>, was_encoded: bool },
}

/// Into an operation, or out of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// A function with its buffers.
pub(crate) struct Operation {
    pub executable: Box<dyn Executable>,
    pub inputs: Vec<Option<Id>>,
    pub outputs: Vec<Option<Id>>,
    pub encoding: Encoding,
    pub has_run: bool,
}

/// Whether a stream has an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Never,
    Encoded,
    /// The stream was reset or released.
    Before,
    /// It may be encoded again.
    Prepared,
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Object::Config { .. } => "compiler's settings",
            Object::Compiler { .. } => "compiler",
            Object::CompilerOptions { .. } => "compilation's options",
            Object::Library(_) => "library",
            Object::Function { .. } => "function",
            Object::OperationOptions { .. } => "operation's options",
            Object::Operation(_) => "operation",
            Object::Port { .. } => "port",
            Object::Buffer(_) => "buffer",
            Object::Stream { .. } => "stream",
        }
    }
}

/// Defines how to get at an object of one kind.
macro_rules! kinds {
    ($($pattern:pat => $name:ident, $release:ident, $kind:literal;)+) => {
        impl State {
            $(
                /// The object, if it is alive and of this kind.
                pub(crate) fn $name(&mut self, id: Id) -> Result<&mut Object, Misuse> {
                    let object = self.object(id)?;
                    if matches!(object, $pattern) {
                        Ok(object)
                    } else {
                        Err(Misuse::WrongKind(object.kind(), $kind))
                    }
                }

                /// Takes an object of this kind out.
                pub(crate) fn $release(&mut self, id: Id) -> Result<Object, Misuse> {
                    self.$name(id)?;
                    self.remove(id)
                }
            )+
        }
    };
}

kinds! {
    Object::Config { .. } => config, release_config, "compiler's settings";
    Object::Compiler { .. } => compiler, release_compiler, "compiler";
    Object::CompilerOptions { .. } => compiler_options, release_compiler_options, "compilation's options";
    Object::Library(_) => library, release_library, "library";
    Object::Function { .. } => function, release_function, "function";
    Object::OperationOptions { .. } => operation_options, release_operation_options, "operation's options";
    Object::Operation(_) => operation_object, release_operation, "operation";
    Object::Port { .. } => port, release_port, "port";
    Object::Buffer(_) => buffer_object, release_buffer, "buffer";
    Object::Stream { .. } => stream, release_stream, "stream";
}

impl State {
    /// Adds an object that needs these.
    pub(crate) fn add(&mut self, object: Object, needs: Vec<Id>) -> Id {
        self.last += STEP;
        self.objects.insert(self.last, Entry { object, needs });
        self.last
    }

    /// Says that an object needs another one from now on.
    pub(crate) fn need(&mut self, id: Id, needed: Id) {
        if let Some(entry) = self.objects.get_mut(&id) {
            entry.needs.push(needed);
        }
    }

    /// Says that an object needs only these any more.
    pub(crate) fn need_only(&mut self, id: Id, needs: Vec<Id>) {
        if let Some(entry) = self.objects.get_mut(&id) {
            entry.needs = needs;
        }
    }

    /// The operation of this number.
    pub(crate) fn operation(&mut self, id: Id) -> Result<&mut Operation, Misuse> {
        match self.operation_object(id)? {
            Object::Operation(operation) => Ok(operation),
            other => Err(Misuse::WrongKind(other.kind(), "operation")),
        }
    }

    /// The memory of the buffer of this number.
    pub(crate) fn buffer(&mut self, id: Id) -> Result<&mut Memory, Misuse> {
        match self.buffer_object(id)? {
            Object::Buffer(memory) => Ok(memory),
            other => Err(Misuse::WrongKind(other.kind(), "buffer")),
        }
    }

    fn object(&mut self, id: Id) -> Result<&mut Object, Misuse> {
        if id == 0 {
            return Err(Misuse::NullObject);
        }
        let given = id.is_multiple_of(STEP) && id <= self.last;
        let missing = if given { Misuse::ReleasedObject } else { Misuse::UnknownObject };
        self.objects.get_mut(&id).map(|entry| &mut entry.object).ok_or(missing)
    }

    fn remove(&mut self, id: Id) -> Result<Object, Misuse> {
        let users = self.objects.values().filter(|entry| entry.needs.contains(&id)).count();
        let kind = self.object(id)?.kind();
        match self.objects.remove(&id) {
            Some(entry) if users > 0 => {
                self.objects.insert(id, entry);
                Err(Misuse::InUse(kind, users))
            }
            Some(entry) => Ok(entry.object),
            None => Err(Misuse::ReleasedObject),
        }
    }

    /// The kinds of what is alive.
    pub(crate) fn alive(&self) -> Vec<&'static str> {
        self.objects.values().map(|entry| entry.object.kind()).collect()
    }
}
