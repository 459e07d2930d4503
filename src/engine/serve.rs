//! Orders in, events out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use floor::data::{Encoded, read_encoded};
use floor::job::{AdapterDType, BaseForm, Seconds, Tokens};
use floor::pretrained::{Checkpoint, ModelTokenizer, TokenizerError};
use floor::protocol::{
    self, CompareOrder, Event, FrameError, GenerateOrder, LoadOrder, MergeOrder, Order, PROTOCOL_VERSION,
    PackOrder, SampleOrder, SamplePrompt, Sampling, ScoreOrder, ServeOrder, StepReport, TrainOrder, Trained,
    read_frame, write_frame,
};
use floor::task::StopWatch;
use tch::{Device, Kind};

use crate::compare::compare;
use crate::decode::{AnswerRequest, Conversation, DecodeLimits, Draw, ServingDecoder, Speaker, decode};
use crate::failure::EngineError;
use crate::fault;
use crate::inquiries::{answer_inquiries, read_inquiries};
use crate::interrupt::{LifeSigns, Pulse, is_stopped, set_idle};
use crate::lora::{Adapter, read_adapter, write_adapter};
use crate::memory::{forget_peak, give_back, peak_memory};
use crate::merge::{Merged, merge};
use crate::model::{Model, Storage, load};
use crate::score::{self, score_tasks};
use crate::shim::set_deterministic;
use crate::tensor::{kind, wide};
use crate::train::{Checkpoints, Finished, Member, Replica, Run, TrainingEvent, finish, finished, train};

/// Runs orders until the stream ends or a shutdown order. Error: a broken stream.
pub(crate) fn serve(mut orders: impl Read, events: File) -> Result<(), FrameError> {
    let device = device();
    let mut engine = Engine { events, device, loaded: None };
    let device_kind = if device == Device::Cpu { protocol::Device::Cpu } else { protocol::Device::Cuda };
    engine.send(&Event::Hello {
        protocol: PROTOCOL_VERSION,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        device: device_kind,
    })?;
    while let Some(order) = next_order(&mut orders)? {
        let result = match order {
            Order::Load(order) => engine.load(&order),
            Order::Train(order) => engine.train(&order),
            Order::Score(order) => engine.score(&order),
            Order::Sample(order) => engine.sample(&order),
            Order::Generate(order) => engine.generate(&order),
            Order::Serve(order) => engine.answer(&order),
            Order::Merge(order) => engine.merge(&order),
            Order::Compare(order) => engine.compare(&order),
            // A stop between two orders.
            Order::Stop | Order::Shutdown => return Ok(()),
        };
        match result {
            Ok(()) => {}
            Err(EngineError::Events(broken)) => return Err(broken),
            Err(EngineError::Stopped) => {
                engine.send(&Event::Stopped)?;
                return Ok(());
            }
            // libtorch's memory may be fragmented by now: a new process starts with a clean address space.
            Err(error @ EngineError::OutOfMemory { .. }) => {
                tracing::error!("{error}");
                engine.send(&Event::Failed(error.report()))?;
                return Ok(());
            }
            Err(error) => {
                tracing::error!("{error}");
                engine.send(&Event::Failed(error.report()))?;
            }
        }
    }
    Ok(())
}

/// Waits for the next order; none if the stream ended or the engine was stopped.
fn next_order(orders: &mut impl Read) -> Result<Option<Order>, FrameError> {
    set_idle(true);
    // The signal may have arrived just before.
    if is_stopped() {
        return Ok(None);
    }
    let order = read_frame(orders);
    set_idle(false);
    order
}

/// The device: the GPU named by `LORAGRID_DEVICE`, the only one visible to this process, if libtorch can use it.
pub(crate) fn device() -> Device {
    let named = std::env::var("LORAGRID_DEVICE").unwrap_or_default();
    if named.starts_with("cuda") && tch::Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu }
}

/// One of the devices that train together with the first. Error: there is none of this number.
fn other_device(first: Device, number: usize) -> Result<Device, EngineError> {
    match first {
        // Several on a CPU share its cores: what the same jobs do on several GPUs, without one.
        Device::Cpu => Ok(Device::Cpu),
        _ if (number as i64) < tch::Cuda::device_count() => Ok(Device::Cuda(number)),
        _ => Err(EngineError::FewerDevices { wanted: number + 1, seen: tch::Cuda::device_count() }),
    }
}

struct Engine {
    events: File,
    device: Device,
    loaded: Option<Loaded>,
}

/// The base model with its tokenizer.
struct Loaded {
    checkpoint: Checkpoint,
    model: Model,
    /// The model on the other devices that train together.
    replicas: Vec<Replica>,
    tokenizer: Option<ModelTokenizer>,
    /// What was said last, and by which adapter.
    conversation: Option<(Option<PathBuf>, Conversation)>,
}

/// Tokens per pass for samples and conversations.
const SAMPLE_BUDGET: usize = 1024;

impl Engine {
    fn send(&mut self, event: &Event) -> Result<(), FrameError> {
        write_frame(&mut self.events, event)
    }

    fn load(&mut self, order: &LoadOrder) -> Result<(), EngineError> {
        let started = Instant::now();
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        tch::set_num_threads(order.threads.unwrap_or_else(cores) as i32);
        self.loaded = None;
        give_back();
        forget_peak();
        let checkpoint = Checkpoint::open(&order.model)?;
        // Merging and comparing need no tokenizer; scoring reports that it is missing.
        let tokenizer = ModelTokenizer::open(&checkpoint).ok();
        let events = &mut self.events;
        let mut signs = LifeSigns::new();
        let mut sign = || signs.beat(&mut || Ok(write_frame(events, &Event::Pass)?));
        let form = (storage(order.form), kind(order.form.dtype));
        let model = load(&checkpoint, form.0, form.1, self.device, &mut sign)?;
        let mut replicas = Vec::new();
        for number in 1..order.devices {
            let device = other_device(self.device, number)?;
            replicas.push(Replica::new(load(&checkpoint, form.0, form.1, device, &mut sign)?));
        }
        let parameters = model.config.parameters();
        let peak = peak_memory();
        let model_name = order.model.display();
        tracing::info!("loaded {model_name} ({parameters} parameters, {:?}), peak memory {peak}", order.form);
        self.loaded = Some(Loaded { checkpoint, model, replicas, tokenizer, conversation: None });
        let seconds = Seconds(started.elapsed().as_secs_f64());
        self.send(&Event::Loaded { parameters, seconds })?;
        Ok(())
    }

    fn train(&mut self, order: &PackOrder) -> Result<(), EngineError> {
        redirect_output(&order.log)?;
        let Loaded { model, replicas, .. } = self.loaded.as_mut().ok_or(EngineError::NoModel)?;
        let model = &*model;
        let events = &mut self.events;
        // Rows shared by several members are read once.
        let mut rows: HashMap<&Path, Encoded> = HashMap::new();
        let mut starting = Vec::new();
        for (number, member) in order.members.iter().enumerate() {
            if tell_if_finished(events, number, member)? {
                continue;
            }
            let path = member.tokens.as_path();
            if !rows.contains_key(path) {
                let Some(encoded) = read_encoded(path) else {
                    let error = EngineError::NoRows { path: path.display().to_string() };
                    fail(events, number, &error)?;
                    continue;
                };
                rows.insert(path, encoded);
            }
            tracing::info!("member {number}: {:?} {:?}", member.train, member.lora);
            let kind = adapter_kind(member.lora.dtype, model.kind);
            starting.push((number, member, Adapter::initialized(model, &member.lora, member.seed, kind)));
        }
        set_deterministic(order.members.iter().any(|member| member.train.strict));
        let numbers: Vec<usize> = starting.iter().map(|(number, ..)| *number).collect();
        let mut members: Vec<Member<'_>> = starting
            .iter_mut()
            .map(|(_, member, adapter)| {
                Member::new(model, adapter, run_of(member, &rows[member.tokens.as_path()]))
            })
            .collect();
        train((model, replicas), &mut members, order.token_budget, &mut |place, event| {
            let number = numbers[place];
            tell(events, model, number, &order.members[number], event)
        })
    }

    fn score(&mut self, order: &ScoreOrder) -> Result<(), EngineError> {
        redirect_output(&order.log)?;
        let started = Instant::now();
        let Loaded { model, tokenizer, checkpoint, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let none = || TokenizerError::None { path: checkpoint.path().to_owned() };
        let tokenizer = tokenizer.as_ref().ok_or_else(none)?;
        let events = &mut self.events;
        let (mut adapters, mut numbers) = (Vec::new(), Vec::new());
        for (number, folder) in order.adapters.iter().enumerate() {
            match folder.as_deref().map(|folder| read_adapter(folder, model)).transpose() {
                Ok(adapter) => {
                    adapters.push(adapter);
                    numbers.push(number);
                }
                Err(error) => fail(events, number, &error)?,
            }
        }
        let members: Vec<Option<&Adapter>> = adapters.iter().map(Option::as_ref).collect();
        let tokens = score_tasks(model, tokenizer, &members, order, |scoring_event| {
            let event = match scoring_event {
                score::ScoringEvent::Pass => Event::Pass,
                score::ScoringEvent::Document(member, score) => {
                    fault::at("document");
                    Event::Document { member: numbers[member], score }
                }
                score::ScoringEvent::Failed(member, error) => return fail(events, numbers[member], &error),
            };
            Ok(write_frame(events, &event)?)
        })?;
        let seconds = Seconds(started.elapsed().as_secs_f64());
        self.send(&Event::Scored { seconds, tokens: Tokens(tokens) })?;
        Ok(())
    }
}

impl Engine {
    fn sample(&mut self, order: &SampleOrder) -> Result<(), EngineError> {
        redirect_output(&order.log)?;
        let Loaded { model, tokenizer, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let events = &mut self.events;
        let (mut adapters, mut numbers) = (Vec::new(), Vec::new());
        for (member, folder) in order.adapters.iter().enumerate() {
            match folder.as_deref().map(|folder| read_adapter(folder, model)).transpose() {
                Ok(adapter) => {
                    adapters.push(adapter);
                    numbers.push(member);
                }
                Err(error) => fail(events, member, &error)?,
            }
        }
        let members: Vec<Option<&Adapter>> = adapters.iter().map(Option::as_ref).collect();
        let stops = StopWatch::default();
        let positions = model.config.max_positions as usize;
        let request = |prompt: &'_ SamplePrompt| {
            let room = positions.saturating_sub(prompt.tokens.len());
            (prompt.max_new_tokens as usize).min(room)
        };
        let asked: Vec<(usize, usize)> =
            order.prompts.iter().map(request).enumerate().filter(|(_, room)| *room > 0).collect();
        let requests: Vec<AnswerRequest<'_>> = asked
            .iter()
            .map(|(place, max_tokens)| AnswerRequest {
                prompt: &order.prompts[*place].tokens,
                max_tokens: *max_tokens,
                draw: None,
                stops: &stops,
            })
            .collect();
        let defaults = tokenizer.as_ref().map(|t| t.generation_defaults().clone()).unwrap_or_default();
        let speaker = Speaker { model, tokenizer: None, ends: &order.stop, defaults: &defaults };
        let mut answers = vec![vec![Vec::new(); order.prompts.len()]; members.len()];
        let events = RefCell::new(events);
        let mut take = |member: usize, request: usize, token: Option<u32>, _| {
            let token = token.ok_or(EngineError::LogitsNotFinite)?;
            if !order.stop.contains(&token) {
                answers[member][asked[request].0].push(token);
            }
            Ok(())
        };
        let mut sign = || Ok(write_frame(&mut **events.borrow_mut(), &Event::Pass)?);
        let limits = DecodeLimits::of_budget(SAMPLE_BUDGET, model);
        decode(&speaker, &members, &requests, limits, &mut take, &mut Pulse::new(&mut sign))?;
        for (member, prompts) in answers.into_iter().enumerate() {
            for (prompt, tokens) in prompts.into_iter().enumerate() {
                let event = Event::Sample { member: numbers[member], prompt, tokens };
                write_frame(&mut **events.borrow_mut(), &event)?;
            }
        }
        Ok(self.send(&Event::Sampled)?)
    }

    fn generate(&mut self, order: &GenerateOrder) -> Result<(), EngineError> {
        let started = Instant::now();
        let Loaded { model, tokenizer, conversation, .. } =
            self.loaded.as_mut().ok_or(EngineError::NoModel)?;
        let adapter = order.adapter.as_deref().map(|folder| read_adapter(folder, model)).transpose()?;
        let defaults = tokenizer.as_ref().map(|t| t.generation_defaults().clone()).unwrap_or_default();
        let speaker = Speaker { model, tokenizer: None, ends: &order.stop, defaults: &defaults };
        let room = (model.config.max_positions as usize).saturating_sub(order.prompt.len());
        let Sampling { temperature, top_k, top_p, seed } = order.sampling;
        let request = AnswerRequest {
            prompt: &order.prompt,
            max_tokens: (order.max_new_tokens as usize).min(room),
            draw: (temperature > 0.0).then_some(Draw { temperature, top_p, top_k, seed, answer: 0 }),
            stops: &StopWatch::default(),
        };
        let mut made = 0;
        if request.max_tokens > 0 {
            // Another adapter computes other keys and values.
            let kept = conversation.take().filter(|(folder, _)| *folder == order.adapter);
            let mut talk = kept.map_or_else(|| Conversation::new(model), |(_, conversation)| conversation);
            let events = &mut self.events;
            talk.answer(
                &speaker,
                adapter.as_ref(),
                &request,
                DecodeLimits::of_budget(SAMPLE_BUDGET, model),
                &mut |token| {
                    made += 1;
                    Ok(write_frame(events, &Event::Token { token })?)
                },
            )?;
            *conversation = Some((order.adapter.clone(), talk));
        }
        let seconds = Seconds(started.elapsed().as_secs_f64());
        Ok(self.send(&Event::Generated { tokens: Tokens(made), seconds })?)
    }

    fn answer(&mut self, order: &ServeOrder) -> Result<(), EngineError> {
        let Loaded { model, tokenizer, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapters = order.adapters.iter().map(|folder| {
            let read = |folder: &PathBuf| read_adapter(folder, model);
            folder.as_ref().map(read).transpose()
        });
        let adapters: Vec<Option<Adapter>> = adapters.collect::<Result<_, _>>()?;
        let members: Vec<Option<&Adapter>> = adapters.iter().map(Option::as_ref).collect();
        let defaults = tokenizer.as_ref().map(|t| t.generation_defaults().clone()).unwrap_or_default();
        let limits = DecodeLimits::of_budget(order.token_budget, model);
        let decoder = ServingDecoder::new(model, &members, &defaults, limits);
        write_frame(&mut self.events, &Event::Serving)?;
        answer_inquiries(decoder, read_inquiries(), &mut self.events)
    }

    fn merge(&mut self, order: &MergeOrder) -> Result<(), EngineError> {
        let Loaded { checkpoint, model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapter = read_adapter(&order.adapter, model)?;
        let Merged { changed, size } = merge(checkpoint, model, &adapter, order)?;
        Ok(self.send(&Event::Merged { changed, size })?)
    }

    fn compare(&mut self, order: &CompareOrder) -> Result<(), EngineError> {
        let Loaded { model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapter = order.adapter.as_deref().map(|folder| read_adapter(folder, model)).transpose()?;
        let difference = compare(model, adapter.as_ref(), order)?;
        Ok(self.send(&Event::Probed { difference })?)
    }
}

/// The inputs of a pack member's run.
fn run_of<'a>(order: &'a TrainOrder, encoded: &'a Encoded) -> Run<'a> {
    let every = Duration::from_secs_f64(order.checkpoint_every.0);
    let checkpoints =
        Checkpoints { folder: &order.checkpoints, every, key: order.key, attempt: order.attempt };
    Run {
        train: &order.train,
        lora: &order.lora,
        seed: order.seed,
        examples: &encoded.examples,
        checkpoints: Some(checkpoints),
    }
}

/// Reports a member whose earlier attempt finished without the orchestrator receiving it. `false`: it had not finished.
fn tell_if_finished(events: &mut File, member: usize, order: &TrainOrder) -> Result<bool, FrameError> {
    let end = finished(&order.checkpoints, order.key).filter(|_| order.adapter.is_dir());
    let Some(end) = end else { return Ok(false) };
    tracing::info!("member {member}: its training is at its end already");
    for report in end.reports {
        write_frame(events, &Event::Step { member, report })?;
    }
    write_frame(events, &Event::Trained { member, trained: end.trained })?;
    Ok(true)
}

/// Forwards a training event of a member; when it ends, its adapter is written first.
fn tell(
    events: &mut File,
    model: &Model,
    member: usize,
    order: &TrainOrder,
    training_event: TrainingEvent<'_>,
) -> Result<(), EngineError> {
    let event = match training_event {
        TrainingEvent::Pass => Event::Pass,
        TrainingEvent::Failed(error) => return fail(events, member, &error),
        TrainingEvent::Resumed(step) => {
            tracing::info!("member {member}: going on after step {step}");
            Event::Resumed { member, step }
        }
        TrainingEvent::Step(report) => {
            let StepReport { step, steps, loss, learning_rate, .. } = report;
            tracing::info!("member {member}: step {step}/{steps} loss {loss:.4} lr {learning_rate:.3e}");
            Event::Step { member, report }
        }
        TrainingEvent::Trained(adapter, trained, reports) => {
            fault::at("adapter");
            let digest = write_adapter(&order.adapter, adapter, model, &order.lora, &order.base_name)?;
            let trained = Trained { adapter: Some(digest), ..trained };
            let end = Finished { key: order.key, reports: reports.to_vec(), trained: trained.clone() };
            finish(&order.checkpoints, order.attempt, &end)?;
            fault::at("finished");
            Event::Trained { member, trained }
        }
    };
    Ok(write_frame(events, &event)?)
}

/// Reports that a member failed.
fn fail(events: &mut File, member: usize, error: &EngineError) -> Result<(), EngineError> {
    tracing::error!("member {member}: {error}");
    Ok(write_frame(events, &Event::MemberFailed { member, failure: error.report() })?)
}

/// Storage of the model's matrices.
fn storage(form: BaseForm) -> Storage {
    let BaseForm { quantize, quantize_head, dequantize, .. } = form;
    Storage { quantize, quantize_head, dequantize }
}

/// The dtype of an adapter over a model of this dtype.
fn adapter_kind(dtype: AdapterDType, model: Kind) -> Kind {
    match dtype {
        AdapterDType::Fp32 => wide(model),
        AdapterDType::Compute => model,
    }
}

/// Redirects descriptors 1 and 2 to the end of the attempt's log.
fn redirect_output(log: &Path) -> Result<(), EngineError> {
    let io = |source| EngineError::Io { what: format!("opening {}", log.display()), source };
    let file = match OpenOptions::new().create(true).append(true).open(log) {
        Ok(file) => file,
        // On a full disk, lose log lines rather than trainings.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            return Ok(());
        }
        Err(error) => return Err(io(error)),
    };
    nix::unistd::dup2_stdout(&file).map_err(|e| io(e.into()))?;
    nix::unistd::dup2_stderr(&file).map_err(|e| io(e.into()))?;
    Ok(())
}
