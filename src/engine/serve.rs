//! Orders in, events out.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use loragrid::checkpoint::{Checkpoint, ModelTokenizer, TokenizerError};
use loragrid::data::read_encoded;
use loragrid::job::{AdapterDType, BaseForm, Seconds, Tokens};
use loragrid::protocol::{
    self, Event, FrameError, GenerateOrder, LoadOrder, MergeOrder, Order, PROTOCOL_VERSION, ProbeOrder,
    ScoreOrder, TrainOrder, read_frame, write_frame,
};
use tch::{Device, Kind};

use crate::failure::EngineError;
use crate::fault;
use crate::generate::generate;
use crate::interrupt::{is_stopped, set_idle};
use crate::lora::{Adapter, read_adapter, write_adapter};
use crate::memory::peak_resident;
use crate::merge::{Merged, merge};
use crate::model::{Model, Storage, load};
use crate::probe::probe;
use crate::score::{self, score_tasks};
use crate::tensor::{kind, wide};
use crate::train::{Checkpoints, Finished, Run, Told, finish, finished, train};

/// Carries out orders until the stream ends or says to shut down. Error: a broken stream.
pub(crate) fn serve(mut orders: impl Read, events: File) -> Result<(), FrameError> {
    let mut engine = Engine { events, loaded: None };
    engine.send(&Event::Hello {
        protocol: PROTOCOL_VERSION,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        device: protocol::Device::Cpu,
    })?;
    while let Some(order) = next_order(&mut orders)? {
        let result = match order {
            Order::Load(order) => engine.load(&order),
            Order::Train(order) => engine.train(&order),
            Order::Score(order) => engine.score(&order),
            Order::Generate(order) => engine.generate(&order),
            Order::Merge(order) => engine.merge(&order),
            Order::Probe(order) => engine.probe(&order),
            Order::Shutdown => return Ok(()),
        };
        match result {
            Ok(()) => {}
            Err(EngineError::Events(broken)) => return Err(broken),
            Err(EngineError::Stopped) => {
                engine.send(&Event::Stopped)?;
                return Ok(());
            }
            // What libtorch has taken by now may be in pieces: a new process begins with a whole address space.
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

/// Waits for the next order; none where the stream ended, or the engine was stopped.
fn next_order(orders: &mut impl Read) -> Result<Option<Order>, FrameError> {
    set_idle(true);
    // The signal may have come just before.
    if is_stopped() {
        return Ok(None);
    }
    let order = read_frame(orders);
    set_idle(false);
    order
}

struct Engine {
    events: File,
    loaded: Option<Loaded>,
}

/// The base model with its tokenizer.
struct Loaded {
    checkpoint: Checkpoint,
    model: Model,
    tokenizer: Option<ModelTokenizer>,
}

impl Engine {
    fn send(&mut self, event: &Event) -> Result<(), FrameError> {
        write_frame(&mut self.events, event)
    }

    fn load(&mut self, order: &LoadOrder) -> Result<(), EngineError> {
        let started = Instant::now();
        tch::set_num_threads(order.threads as i32);
        self.loaded = None;
        let checkpoint = Checkpoint::open(&order.model)?;
        // Merging and comparing need none; scoring says that it is missing.
        let tokenizer = ModelTokenizer::open(&checkpoint).ok();
        let model = load(&checkpoint, storage(order.form), kind(order.form.dtype), Device::Cpu)?;
        let parameters = model.config.parameters();
        let peak = peak_resident();
        let model_name = order.model.display();
        tracing::info!("loaded {model_name} ({parameters} parameters, {:?}), peak memory {peak}", order.form);
        self.loaded = Some(Loaded { checkpoint, model, tokenizer });
        let seconds = Seconds(started.elapsed().as_secs_f64());
        self.send(&Event::Loaded { parameters, seconds })?;
        Ok(())
    }

    fn train(&mut self, order: &TrainOrder) -> Result<(), EngineError> {
        redirect_output(&order.log)?;
        // An earlier attempt came to the end, and whoever waited for it did not hear so.
        if let Some(end) = finished(&order.checkpoints, order.key).filter(|_| order.adapter.is_dir()) {
            tracing::info!("the training is at its end already");
            end.reports.iter().try_for_each(|report| self.send(&Event::Step(*report)))?;
            return Ok(self.send(&Event::Trained(end.trained))?);
        }
        let Loaded { model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let path = &order.tokens;
        let encoded =
            read_encoded(path).ok_or_else(|| EngineError::NoRows { path: path.display().to_string() })?;
        let examples = encoded.examples;
        tracing::info!("training on {} rows: {:?} {:?}", examples.len(), order.train, order.lora);
        let mut adapter =
            Adapter::initialised(model, &order.lora, order.seed, adapter_kind(order.lora.dtype, model.kind));
        let run = Run {
            train: &order.train,
            lora: &order.lora,
            seed: order.seed,
            examples: &examples,
            token_budget: order.token_budget,
            checkpoints: Some(Checkpoints {
                folder: &order.checkpoints,
                every: Duration::from_secs_f64(order.checkpoint_every.0),
                key: order.key,
            }),
        };
        let events = &mut self.events;
        let (trained, reports) = train(model, &mut adapter, &run, |told| {
            let report = match told {
                Told::Pass => return Ok(write_frame(events, &Event::Pass)?),
                Told::Resumed(step) => {
                    tracing::info!("going on after step {step}");
                    return Ok(write_frame(events, &Event::Resumed { step })?);
                }
                Told::Step(report) => report,
            };
            tracing::info!(
                "step {}/{} loss {:.4} lr {:.3e}",
                report.step,
                report.steps,
                report.loss,
                report.learning_rate
            );
            Ok(write_frame(events, &Event::Step(report))?)
        })?;
        fault::at("adapter");
        write_adapter(&order.adapter, &adapter, model, &order.lora, &order.base_name)?;
        finish(&order.checkpoints, &Finished { key: order.key, reports, trained: trained.clone() })?;
        fault::at("finished");
        self.send(&Event::Trained(trained))?;
        Ok(())
    }

    fn score(&mut self, order: &ScoreOrder) -> Result<(), EngineError> {
        redirect_output(&order.log)?;
        let started = Instant::now();
        let Loaded { model, tokenizer, checkpoint } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let none = || TokenizerError::None { path: checkpoint.path().to_owned() };
        let tokenizer = tokenizer.as_ref().ok_or_else(none)?;
        let read = |folder| read_adapter(folder, model);
        let adapter = order.adapter.as_deref().map(read).transpose()?;
        let events = &mut self.events;
        let names: Vec<&str> = order.tasks.iter().map(|wanted| wanted.task.name.as_str()).collect();
        tracing::info!("scoring {}", names.join(", "));
        let tokens = score_tasks(model, tokenizer, adapter.as_ref(), order, |told| {
            let event = match told {
                score::Told::Pass => Event::Pass,
                score::Told::Document(score) => {
                    fault::at("document");
                    Event::Document(score)
                }
            };
            Ok(write_frame(events, &event)?)
        })?;
        let seconds = Seconds(started.elapsed().as_secs_f64());
        self.send(&Event::Scored { seconds, tokens: Tokens(tokens) })?;
        Ok(())
    }
}

impl Engine {
    fn generate(&mut self, order: &GenerateOrder) -> Result<(), EngineError> {
        let Loaded { model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapter = order.adapter.as_deref().map(|folder| read_adapter(folder, model)).transpose()?;
        let events = &mut self.events;
        let ended = generate(model, adapter.as_ref(), order, |token| {
            Ok(write_frame(events, &Event::Token { token })?)
        })?;
        Ok(self.send(&ended)?)
    }

    fn merge(&mut self, order: &MergeOrder) -> Result<(), EngineError> {
        let Loaded { checkpoint, model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapter = read_adapter(&order.adapter, model)?;
        let Merged { changed, size } = merge(checkpoint, model, &adapter, order)?;
        Ok(self.send(&Event::Merged { changed, size })?)
    }

    fn probe(&mut self, order: &ProbeOrder) -> Result<(), EngineError> {
        let Loaded { model, .. } = self.loaded.as_ref().ok_or(EngineError::NoModel)?;
        let adapter = order.adapter.as_deref().map(|folder| read_adapter(folder, model)).transpose()?;
        let difference = probe(model, adapter.as_ref(), order)?;
        Ok(self.send(&Event::Probed { difference })?)
    }
}

/// How the model's matrices are held.
fn storage(form: BaseForm) -> Storage {
    let BaseForm { quantize, quantize_head, dequantise, .. } = form;
    Storage { quantize, quantize_head, dequantise }
}

/// The kind of an adapter over a model of this kind.
fn adapter_kind(dtype: AdapterDType, model: Kind) -> Kind {
    match dtype {
        AdapterDType::Fp32 => wide(model),
        AdapterDType::Compute => model,
    }
}

/// Points descriptors 1 and 2 at the end of the attempt's log.
fn redirect_output(log: &Path) -> Result<(), EngineError> {
    let io = |source| EngineError::Io { what: format!("opening {}", log.display()), source };
    let file = OpenOptions::new().create(true).append(true).open(log).map_err(io)?;
    nix::unistd::dup2_stdout(&file).map_err(|e| io(e.into()))?;
    nix::unistd::dup2_stderr(&file).map_err(|e| io(e.into()))?;
    Ok(())
}
