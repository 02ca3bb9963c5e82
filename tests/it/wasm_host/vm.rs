//! One VM of the artifact: a worker's.

use std::collections::HashMap;

use anyhow::{Result, bail};
use wasmtime::{Instance, Linker, Store};

use super::{Header, WasmHost, artifact, calls};

const ROOT: i32 = 1;
const REQUEST_HEADERS: i32 = 0;
const RESPONSE_HEADERS: i32 = 2;
const RESPONSE_TRAILERS: i32 = 3;

/// What a VM's host knows.
pub struct State {
    pub(super) host: WasmHost,
    pub(super) configuration: Vec<u8>,
    streams: HashMap<i32, Stream>,
    current: i32,
}

#[derive(Default)]
struct Stream {
    maps: HashMap<i32, Vec<Header>>,
    properties: HashMap<String, Vec<u8>>,
    local: Option<Local>,
}

/// A response that the filter gave itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub status: i32,
    pub grpc_status: i32,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What became of a request's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// They go on, like this.
    Forwarded(Vec<Header>),
    /// The filter answered.
    Refused(Local),
}

impl State {
    fn stream(&mut self) -> &mut Stream {
        self.streams.entry(self.current).or_default()
    }

    pub(super) fn headers(&mut self, map: i32) -> &mut Vec<Header> {
        self.stream().maps.entry(map).or_default()
    }

    /// As Envoy shows several headers of one name.
    pub(super) fn header(&mut self, map: i32, name: &str) -> Option<Vec<u8>> {
        let headers = self.headers(map).iter().filter(|(known, _)| known == name);
        let values: Vec<&[u8]> = headers.map(|(_, value)| value.as_slice()).collect();
        (!values.is_empty()).then(|| values.join(&b','))
    }

    pub(super) fn property(&self, path: &str) -> Option<Vec<u8>> {
        self.streams
            .get(&self.current)?
            .properties
            .get(path)
            .cloned()
    }

    pub(super) fn respond(&mut self, local: Local) {
        self.stream().local = Some(local);
    }
}

/// A worker's VM.
pub struct Vm {
    store: Store<State>,
    instance: Instance,
    next: i32,
}

impl Vm {
    /// Starts a VM with a configuration, as Envoy does.
    ///
    /// # Errors
    /// When it is refused, with the log; or when it traps.
    pub fn new(host: &WasmHost, configuration: &str) -> Result<Self> {
        let (engine, module) = artifact()?;
        let mut linker = Linker::new(engine);
        calls::link(&mut linker)?;
        linker.define_unknown_imports_as_traps(module)?;
        let state = State {
            host: host.clone(),
            configuration: Vec::new(),
            streams: HashMap::new(),
            current: 0,
        };
        let mut store = Store::new(engine, state);
        let instance = linker.instantiate(&mut store, module)?;
        let mut vm = Self {
            store,
            instance,
            next: ROOT + 1,
        };
        vm.call::<(i32, i32), ()>("proxy_on_context_create", (ROOT, 0))?;
        vm.call::<(i32, i32), i32>("proxy_on_vm_start", (ROOT, 0))?;
        if !vm.configure(configuration.as_bytes())? {
            bail!("refused: {:?}", host.world(|world| world.logs.clone()));
        }
        Ok(vm)
    }

    fn call<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
        &mut self,
        name: &str,
        parameters: P,
    ) -> Result<R> {
        let function = self
            .instance
            .get_typed_func::<P, R>(&mut self.store, name)?;
        Ok(function.call(&mut self.store, parameters)?)
    }

    /// Gives it a configuration; whether it took it.
    pub fn configure(&mut self, configuration: &[u8]) -> Result<bool> {
        self.store.data_mut().configuration = configuration.to_vec();
        self.store.data_mut().current = ROOT;
        let size = i32::try_from(configuration.len())?;
        Ok(self.call::<(i32, i32), i32>("proxy_on_configure", (ROOT, size))? != 0)
    }

    /// The timer of this VM.
    pub fn tick(&mut self) -> Result<()> {
        self.store.data_mut().current = ROOT;
        self.call::<i32, ()>("proxy_on_tick", ROOT)
    }

    /// Another configuration takes this one's place; its last request has ended.
    pub fn retire(&mut self) -> Result<()> {
        self.store.data_mut().current = ROOT;
        self.call::<i32, i32>("proxy_on_done", ROOT)?;
        Ok(())
    }

    /// A request's headers arrive; gives its number as well.
    pub fn request(&mut self, service: &str, headers: &[Header]) -> Result<(i32, Answer)> {
        let context = self.next;
        self.next += 1;
        let state = self.store.data_mut();
        state.current = context;
        state.headers(REQUEST_HEADERS).extend_from_slice(headers);
        let path = "xds\0route_metadata\0filter_metadata\0mumbai_mesh\0service";
        let properties = &mut state.stream().properties;
        properties.insert(path.into(), service.into());
        properties.insert("xds\0cluster_name".into(), service.into());
        self.call::<(i32, i32), ()>("proxy_on_context_create", (context, ROOT))?;
        let count = i32::try_from(headers.len())?;
        let parameters = (context, count, 1);
        let action = self.call::<(i32, i32, i32), i32>("proxy_on_request_headers", parameters)?;
        let stream = self.store.data_mut().stream();
        let answer = match stream.local.clone() {
            Some(local) if action == 1 => Answer::Refused(local),
            _ => Answer::Forwarded(stream.maps[&REQUEST_HEADERS].clone()),
        };
        Ok((context, answer))
    }

    /// A request ends.
    pub fn finish(
        &mut self,
        context: i32,
        status: Option<u16>,
        flags: u64,
        grpc_status: Option<u32>,
    ) -> Result<()> {
        let state = self.store.data_mut();
        state.current = context;
        if let Some(grpc_status) = grpc_status {
            let trailer = (
                "grpc-status".to_string(),
                grpc_status.to_string().into_bytes(),
            );
            state.headers(RESPONSE_TRAILERS).push(trailer);
        }
        let code = status.map(|status| (":status".to_string(), status.to_string().into_bytes()));
        state.headers(RESPONSE_HEADERS).extend(code);
        let properties = &mut state.stream().properties;
        let integer = |number: u64| number.to_le_bytes().to_vec();
        if let Some(status) = status {
            properties.insert("response\0code".into(), integer(u64::from(status)));
        }
        properties.insert("response\0flags".into(), integer(flags));
        // A response that Envoy flags did not arrive to its end.
        let end = i32::from(flags == 0 && grpc_status.is_none());
        self.call::<(i32, i32, i32), i32>("proxy_on_response_headers", (context, 0, end))?;
        if grpc_status.is_some() {
            self.call::<(i32, i32), i32>("proxy_on_response_trailers", (context, 1))?;
        }
        self.call::<i32, i32>("proxy_on_done", context)?;
        self.store.data_mut().streams.remove(&context);
        Ok(())
    }
}
