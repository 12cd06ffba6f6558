//! The system's private Objective-C interface, loaded at run time: a program's text and weights are handed over in memory.
//!
//! Source of every selector, type encoding and word on ownership: the projects maderix/ANE, Orion (arXiv 2603.06728) and
//! ane-bridge-rs, which ran on it. None of it is documented, so a system may change it: that classes and methods are there
//! is checked when the interface is loaded, as a message that an object does not understand ends the process.
//!
//! Objects are counted by references. What a method returns is autoreleased, and retained here at once; it is released
//! when it is dropped. What is given to a method stays ours; what the method keeps of it, it retains.
#![allow(unsafe_code)] // Every message to a private class is foreign code.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::ptr::{null_mut, slice_from_raw_parts_mut};
use std::sync::{Arc, Mutex, PoisonError};

use anemone_mil::runtime::Port;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, Sel};
use objc2::{msg_send, sel};
use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString};
use objc2_foundation::{NSArray, NSData, NSDictionary, NSError, NSNumber, NSString, NSTemporaryDirectory};
use objc2_io_surface::{
    IOSurfaceLockOptions, IOSurfaceRef, kIOSurfaceAllocSize, kIOSurfaceBytesPerElement,
    kIOSurfaceBytesPerRow, kIOSurfaceHeight, kIOSurfacePixelFormat, kIOSurfaceWidth,
};

use super::staging::{
    Evaluate, LaidOut, Staged, WeightFile, make_unique, model_path, places, surface_bytes, weight_files,
};
use super::system::load_reason;
use super::{Bound, Compiled, DeviceError, Interface, Source};

const FRAMEWORK: &str = "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";
/// The quality of service that every source asks for: `QOS_CLASS_DEFAULT`, an `unsigned int`.
const QOS: u32 = 21;

/// A dictionary path → { `offset`, `data` }.
type WeightDictionary = NSDictionary<NSString, NSDictionary<NSString, AnyObject>>;

/// The interface's classes, which have the methods that are called.
#[derive(Clone, Copy)]
struct Classes {
    descriptor: &'static AnyClass,
    model: &'static AnyClass,
    surface: &'static AnyClass,
    request: &'static AnyClass,
}

/// A class, or the error that it is not there.
fn class(name: &CStr) -> Result<&'static AnyClass, DeviceError> {
    AnyClass::get(name).ok_or_else(|| missing(&name.to_string_lossy()))
}

fn missing(function: &str) -> DeviceError {
    DeviceError::MissingFunction { library: PathBuf::from(FRAMEWORK), function: function.to_string() }
}

impl Classes {
    fn find() -> Result<Classes, DeviceError> {
        let classes = Classes {
            descriptor: class(c"_ANEInMemoryModelDescriptor")?,
            model: class(c"_ANEInMemoryModel")?,
            surface: class(c"_ANEIOSurfaceObject")?,
            request: class(c"_ANERequest")?,
        };
        let of_class = |class: &AnyClass, method: Sel| match class.class_method(method) {
            Some(_) => Ok(()),
            None => Err(missing(&format!(
                "+[{} {}]",
                class.name().to_string_lossy(),
                method.name().to_string_lossy()
            ))),
        };
        of_class(classes.descriptor, sel!(modelWithMILText:weights:optionsPlist:))?;
        of_class(classes.model, sel!(inMemoryModelWithDescriptor:))?;
        of_class(classes.surface, sel!(objectWithIOSurface:))?;
        of_class(
            classes.request,
            sel!(requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:),
        )?;
        let of_model = [
            sel!(hexStringIdentifier),
            sel!(compileWithQoS:options:error:),
            sel!(loadWithQoS:options:error:),
            sel!(evaluateWithQoS:options:request:error:),
            sel!(unloadWithQoS:error:),
        ];
        match of_model.into_iter().find(|&method| classes.model.instance_method(method).is_none()) {
            None => Ok(classes),
            Some(method) => {
                Err(missing(&format!("-[_ANEInMemoryModel {}]", method.name().to_string_lossy())))
            }
        }
    }

    /// `+[_ANEInMemoryModelDescriptor modelWithMILText:weights:optionsPlist:]`, `@@:@@@`. The text is UTF-8; `weights` may
    /// be empty, and must not be nil (R31). Both are the caller's; the descriptor is autoreleased, nil if the text is none.
    fn descriptor(self, text: &NSData, weights: &WeightDictionary) -> Option<Retained<AnyObject>> {
        let none: Option<&AnyObject> = None;
        // SAFETY: the class has the method, and these are the kinds of its arguments and its result.
        unsafe { msg_send![self.descriptor, modelWithMILText: text, weights: weights, optionsPlist: none] }
    }

    /// `+[_ANEInMemoryModel inMemoryModelWithDescriptor:]`, `@@:@`. The model retains the descriptor, and is autoreleased.
    fn in_memory_model(self, descriptor: &AnyObject) -> Option<Model> {
        // SAFETY: as above; the argument comes from `Classes::descriptor`.
        let model: Option<_> = unsafe { msg_send![self.model, inMemoryModelWithDescriptor: descriptor] };
        model.map(Model)
    }

    /// `+[_ANEIOSurfaceObject objectWithIOSurface:]`, `@@:^{__IOSurface=}`. The object retains the surface, and is
    /// autoreleased.
    fn surface_object(self, surface: &IOSurfaceRef) -> Option<Retained<AnyObject>> {
        // SAFETY: as above.
        unsafe { msg_send![self.surface, objectWithIOSurface: surface] }
    }

    /// `+[_ANERequest requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:]`,
    /// `@@:@@@@@@@`. Arrays of surface objects, with the numbers 0…n−1; no weights, no statistics, the first procedure. The
    /// request retains them, and is autoreleased.
    fn request(
        self,
        inputs: &[Retained<AnyObject>],
        outputs: &[Retained<AnyObject>],
    ) -> Option<Retained<AnyObject>> {
        let indices = |objects: &[Retained<AnyObject>]| {
            let numbers: Vec<_> = (0..objects.len()).map(NSNumber::new_usize).collect();
            NSArray::from_retained_slice(&numbers)
        };
        let (input_indices, output_indices) = (indices(inputs), indices(outputs));
        let (inputs, outputs) = (NSArray::from_retained_slice(inputs), NSArray::from_retained_slice(outputs));
        let (none, first): (Option<&AnyObject>, _) = (None, NSNumber::new_usize(0));
        // SAFETY: as above.
        unsafe {
            msg_send![
                self.request, requestWithInputs: &*inputs, inputIndices: &*input_indices, outputs: &*outputs,
                outputIndices: &*output_indices, weightsBuffer: none, perfStats: none, procedureIndex: &*first
            ]
        }
    }
}

/// An `_ANEInMemoryModel`, which [`Classes::find`] has found to have the methods below.
struct Model(Retained<AnyObject>);

// SAFETY: an Objective-C object is not tied to the thread that made it, and references are counted atomically; the model is
// used by one thread at a time, as it is not `Sync`.
unsafe impl Send for Model {}

impl Model {
    /// `-[_ANEInMemoryModel hexStringIdentifier]`, `@@:`. The string is autoreleased.
    fn identifier(&self) -> Option<Retained<NSString>> {
        // SAFETY: the object has the method, and this is the kind of its result.
        unsafe { msg_send![&*self.0, hexStringIdentifier] }
    }

    /// `-[_ANEInMemoryModel compileWithQoS:options:error:]`, `B@:I@^@`. The error is autoreleased.
    fn compile(&self) -> Result<(), Retained<NSError>> {
        let options = no_options();
        // SAFETY: as above, with the kinds of its arguments; the place for the error is of this frame.
        unsafe { msg_send![&*self.0, compileWithQoS: QOS, options: &*options, error: _] }
    }

    /// `-[_ANEInMemoryModel loadWithQoS:options:error:]`, `B@:I@^@`. The error is autoreleased.
    fn load(&self) -> Result<(), Retained<NSError>> {
        let options = no_options();
        // SAFETY: as above.
        unsafe { msg_send![&*self.0, loadWithQoS: QOS, options: &*options, error: _] }
    }

    /// `-[_ANEInMemoryModel evaluateWithQoS:options:request:error:]`, `B@:I@@^@`. Returns when the run is done; no surface of
    /// the request is locked. The request stays the caller's; the error is autoreleased.
    fn evaluate(&self, request: &AnyObject) -> Result<(), Retained<NSError>> {
        let options = no_options();
        // SAFETY: as above; the request comes from `Classes::request`.
        unsafe { msg_send![&*self.0, evaluateWithQoS: QOS, options: &*options, request: request, error: _] }
    }

    /// `-[_ANEInMemoryModel unloadWithQoS:error:]`, `B@:I^@`, after `load`. The error is autoreleased.
    fn unload(&self) -> Result<(), Retained<NSError>> {
        // SAFETY: as above.
        unsafe { msg_send![&*self.0, unloadWithQoS: QOS, error: _] }
    }
}

fn no_options() -> Retained<NSDictionary<NSString, AnyObject>> {
    NSDictionary::from_slices::<NSString>(&[], &[])
}

fn said(error: &NSError) -> String {
    error.localizedDescription().to_string()
}

/// An IOSurface of bytes: one row, of elements of one byte, with the pixel format 0.
struct Surface(CFRetained<IOSurfaceRef>);

// SAFETY: a surface is memory that processes share, made for use by several threads; its bytes are reached under its lock.
unsafe impl Send for Surface {}

impl Surface {
    /// `IOSurfaceCreate`; the surface is ours, its memory zeros.
    fn new(bytes: usize) -> Option<Surface> {
        let bytes = i64::try_from(bytes).ok()?;
        // SAFETY: they are constants of the framework.
        let keys: [&CFString; 6] = unsafe {
            [
                kIOSurfaceWidth,
                kIOSurfaceHeight,
                kIOSurfaceBytesPerElement,
                kIOSurfaceBytesPerRow,
                kIOSurfaceAllocSize,
                kIOSurfacePixelFormat,
            ]
        };
        let values = [bytes, 1, 1, bytes, bytes, 0].map(CFNumber::new_i64);
        let values: Vec<&CFNumber> = values.iter().map(|value| &**value).collect();
        let properties = CFDictionary::from_slices(&keys, &values);
        // SAFETY: every key has a value of the kind that it asks for.
        unsafe { IOSurfaceRef::new(properties.as_opaque()) }.map(Surface)
    }

    /// `IOSurfaceLock`, `IOSurfaceGetBaseAddress`, `IOSurfaceUnlock`: calls `copy` with the bytes. They are the surface's,
    /// and at this address only as long as it is locked.
    fn locked(
        &mut self,
        options: IOSurfaceLockOptions,
        copy: impl FnOnce(&mut [u8]),
    ) -> Result<(), DeviceError> {
        let done = |call, status| match status {
            0 => Ok(()),
            status => Err(DeviceError::Call { call, status: i64::from(status) }),
        };
        // SAFETY: null stands for no seed.
        done("IOSurfaceLock", unsafe { self.0.lock(options, null_mut()) })?;
        let bytes =
            slice_from_raw_parts_mut(self.0.base_address().as_ptr().cast::<u8>(), self.0.alloc_size());
        // SAFETY: the surface is locked and has so many bytes, which no one else reaches: `self` is borrowed alone, and the
        // engine uses it only in `evaluate`, which has returned.
        copy(unsafe { &mut *bytes });
        // SAFETY: as above, with the options that it was locked with.
        done("IOSurfaceUnlock", unsafe { self.0.unlock(options, null_mut()) })
    }
}

/// The Objective-C interface.
pub(super) struct InMemory(Classes);

impl InMemory {
    /// Loads the system's framework.
    ///
    /// # Errors
    ///
    /// When it does not load, or lacks a class or a method.
    pub(super) fn load() -> Result<InMemory, DeviceError> {
        // SAFETY: it is the system's own framework.
        let library = unsafe { libloading::Library::new(FRAMEWORK) };
        let library = library.map_err(|error| DeviceError::Load {
            library: PathBuf::from(FRAMEWORK),
            reason: load_reason(&error),
        })?;
        // Never unloaded: the runtime knows its classes from now on.
        std::mem::forget(library);
        Ok(InMemory(Classes::find()?))
    }
}

impl Interface for InMemory {
    fn name(&self) -> &'static str {
        "in-memory"
    }

    fn compile(&self, source: Source<'_>) -> Result<Box<dyn Compiled>, DeviceError> {
        let mut text = std::fs::read(source.model).map_err(|error| DeviceError::Files(error.to_string()))?;
        make_unique(&mut text);
        let weights = weight_files(source.directory, source.model)?;
        let refused = |what: &str| DeviceError::Compilation(what.to_string());
        autoreleasepool(|_| {
            let dictionary = weight_dictionary(&weights)?;
            let descriptor = self.0.descriptor(&NSData::with_bytes(&text), &dictionary);
            let descriptor = descriptor.ok_or_else(|| refused("it makes no descriptor of the text"))?;
            let model = self.0.in_memory_model(&descriptor);
            let model = model.ok_or_else(|| refused("it makes no model of the descriptor"))?;
            let identifier = model.identifier().ok_or_else(|| refused("the model has no identifier"))?;
            let temporary = NSTemporaryDirectory().to_string();
            let directory = LaidOut::new(Path::new(&temporary), &identifier.to_string(), &text, &weights)?;
            model.compile().map_err(|error| DeviceError::Compilation(said(&error)))?;
            model.load().map_err(|error| DeviceError::Compilation(said(&error)))?;
            let loaded = Arc::new(Mutex::new(LoadedModel { model, _directory: directory }));
            Ok(Box::new(CompiledModel { classes: self.0, loaded }) as Box<dyn Compiled>)
        })
    }
}

/// Each weight by the path that the text has for it.
fn weight_dictionary(weights: &[WeightFile]) -> Result<Retained<WeightDictionary>, DeviceError> {
    let (offset, data) = (NSString::from_str("offset"), NSString::from_str("data"));
    let mut paths = Vec::with_capacity(weights.len());
    let mut entries = Vec::with_capacity(weights.len());
    for (path, content) in weights {
        let (zero, content) = (NSNumber::new_usize(0), NSData::with_bytes(content));
        let values: [&AnyObject; 2] = [&zero, &content];
        paths.push(NSString::from_str(&model_path(path)?));
        entries.push(NSDictionary::from_slices(&[&*offset, &*data], &values));
    }
    let paths: Vec<&NSString> = paths.iter().map(|path| &**path).collect();
    Ok(NSDictionary::from_retained_objects(&paths, &entries))
}

/// A model that is loaded, and unloaded when dropped, before its directory is removed.
struct LoadedModel {
    model: Model,
    _directory: LaidOut,
}

impl Drop for LoadedModel {
    fn drop(&mut self) {
        // A failure leaves nothing to be done.
        autoreleasepool(|_| drop(self.model.unload()));
    }
}

struct CompiledModel {
    classes: Classes,
    loaded: Arc<Mutex<LoadedModel>>,
}

impl Compiled for CompiledModel {
    fn bind(&self, inputs: &[Port], outputs: &[Port]) -> Result<Box<dyn Bound>, DeviceError> {
        let refused = |what: &str| DeviceError::Run(what.to_string());
        autoreleasepool(|_| {
            let surfaces = |ports: &[Port]| {
                let bytes = surface_bytes(ports)?;
                let surface = |_| Surface::new(bytes).ok_or_else(|| refused("there is no surface to be had"));
                places(ports).into_iter().map(surface).collect::<Result<Vec<Surface>, DeviceError>>()
            };
            let objects = |surfaces: &[Surface]| {
                let object = |surface: &Surface| self.classes.surface_object(&surface.0);
                let objects: Option<Vec<_>> = surfaces.iter().map(object).collect();
                objects.ok_or_else(|| refused("it takes no surface"))
            };
            let (input_surfaces, output_surfaces) = (surfaces(inputs)?, surfaces(outputs)?);
            let request = self.classes.request(&objects(&input_surfaces)?, &objects(&output_surfaces)?);
            let request = request.ok_or_else(|| refused("it makes no request of the surfaces"))?;
            let loaded = self.loaded.clone();
            let program = BoundModel { request, inputs: input_surfaces, outputs: output_surfaces, loaded };
            Ok(Box::new(Staged::new(program, inputs, outputs)?) as Box<dyn Bound>)
        })
    }
}

/// A request, with its surfaces in the order in which they bind.
struct BoundModel {
    request: Retained<AnyObject>,
    inputs: Vec<Surface>,
    outputs: Vec<Surface>,
    loaded: Arc<Mutex<LoadedModel>>,
}

// SAFETY: of its parts only the request is not `Send` of itself; it is not tied to a thread, and is used by one at a time.
unsafe impl Send for BoundModel {}

impl Evaluate for BoundModel {
    fn write(&mut self, place: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let surface = &mut self.inputs[place];
        surface.locked(IOSurfaceLockOptions::empty(), |to| to[..bytes.len()].copy_from_slice(bytes))
    }

    fn evaluate(&mut self) -> Result<(), DeviceError> {
        // What a panic elsewhere left is whole: one message at a time changes it.
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            loaded.model.evaluate(&self.request).map_err(|error| DeviceError::Run(said(&error)))
        })
    }

    fn read(&mut self, place: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let surface = &mut self.outputs[place];
        surface.locked(IOSurfaceLockOptions::ReadOnly, |from| bytes.copy_from_slice(&from[..bytes.len()]))
    }
}
