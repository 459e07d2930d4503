//! Inquiries in, tokens out: what is read while a serve order is carried out.

use std::fs::File;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use floor::protocol::{
    AskInquiry, EngineFailure, Event, FailureKind, FrameError, Inquiry, Sampling, read_frame, write_frame,
};

use crate::decode::{Asked, Draw, Outcome, ServingDecoder};
use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::{Pulse, is_stopped, set_idle};
use crate::memory::within_memory;

/// What is read: inquiries, none at the end of the stream.
pub(crate) type Inquiries = Receiver<Result<Option<Inquiry>, FrameError>>;

/// Reads standard input on a thread until [`Inquiry::Close`], which is passed on, or the end of the stream.
pub(crate) fn read_inquiries() -> Inquiries {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        loop {
            let read = read_frame::<Inquiry>(&mut input);
            let is_last = !matches!(&read, Ok(Some(Inquiry::Ask(_) | Inquiry::Withdraw { .. })));
            // Nobody listens once the order has failed.
            if sender.send(read).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Answers until they are closed. Errors: a broken stream, the order is stopped, a pass that does not fit into memory.
pub(crate) fn answer_inquiries(
    mut decoder: ServingDecoder<'_>,
    inquiries: Inquiries,
    events: &mut File,
) -> Result<(), EngineError> {
    loop {
        while let Some(inquiry) = next(&inquiries, decoder.has_work())? {
            match inquiry {
                Inquiry::Ask(inquiry) => match decoder.check(&inquiry) {
                    Ok(room) => decoder.ask(asked(inquiry, room)),
                    Err(message) => {
                        let failure = EngineFailure { kind: FailureKind::BadInput, message };
                        write_frame(events, &Event::Unanswered { id: inquiry.id, failure })?;
                    }
                },
                Inquiry::Withdraw { id } => decoder.withdraw(id),
                Inquiry::Close => return Ok(()),
            }
        }
        let mut take = |id: u64, outcome: Outcome| {
            let event = match outcome {
                Outcome::Token { token, end, logprobs } => Event::Answered { id, token, end, logprobs },
                Outcome::NotFinite => {
                    Event::Unanswered { id, failure: EngineError::LogitsNotFinite.report() }
                }
            };
            Ok(write_frame(events, &event)?)
        };
        within_memory(decoder.token_budget(), || {
            fault::at("answer");
            tch::no_grad(|| decoder.step(&mut take))
        })??;
        Pulse::new(&mut || Ok(write_frame(events, &Event::Pass)?)).beat()?;
    }
}

/// The next inquiry; none if there is none yet and something to compute. Errors: a broken stream, the order is stopped.
fn next(inquiries: &Inquiries, is_busy: bool) -> Result<Option<Inquiry>, EngineError> {
    let read = if is_busy {
        match inquiries.try_recv() {
            Ok(read) => read,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => Ok(None),
        }
    } else {
        set_idle(true);
        // The signal may have arrived just before.
        if is_stopped() {
            return Err(EngineError::Stopped);
        }
        let read = inquiries.recv();
        set_idle(false);
        read.unwrap_or(Ok(None))
    };
    // The end of the stream closes.
    Ok(Some(read?.unwrap_or(Inquiry::Close)))
}

fn asked(inquiry: AskInquiry, room: usize) -> Asked {
    let Sampling { temperature, top_k, top_p, seed } = inquiry.sampling;
    let answer = inquiry.answer;
    Asked {
        id: inquiry.id,
        member: inquiry.member,
        prompt: inquiry.prompt,
        ends: inquiry.stop,
        max_tokens: room,
        draw: (temperature > 0.0).then_some(Draw { temperature, top_p, top_k, seed, answer }),
        top_logprobs: inquiry.top_logprobs,
    }
}
