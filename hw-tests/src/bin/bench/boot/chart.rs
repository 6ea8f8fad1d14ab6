//! The plot: each boot as a row of its stages, and below it the agent's own part, enlarged. Its text takes the reader's light
//! or dark ground from the style sheet inside.

use std::fmt::Write as _;

use hw_tests::Result;

use super::report::{Measured, took};
use super::stages::{AGENT, BOOT, Stage, Timeline};

/// For stages in their order; each can be told from its neighbours on white and on black.
const COLOURS: [&str; 9] = [
    "#8c959f", "#5b8bb8", "#a08cc0", "#d9822b", "#c94f3d", "#3f9d6b", "#d16d9e", "#b3a125",
    "#4aa3a3",
];

/// Where a viewer doesn't say which ground it has, a grey that is read on both.
const STYLE: &str = "text { font: 13px sans-serif; fill: #6e7781 } .faint { font-size: 12px } \
    line { stroke: #6e7781; stroke-opacity: 0.4 } \
    @media (prefers-color-scheme: light) { text { fill: #24292f } .faint { fill: #57606a } } \
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .faint { fill: #9198a1 } }";

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 20.0;
/// A boot's row, and a line of text.
const ROW: f64 = 12.0;
const LINE: f64 = 20.0;
const GAP: f64 = 2.0;

/// Draws it.
///
/// # Errors
/// There is nothing to draw.
pub(super) fn svg(measured: &Measured) -> Result<String> {
    let mut drawing = Drawing::default();
    let Measured { boots, agents, .. } = measured;
    drawing.part("From power-on to secret, boot by boot", &BOOT, boots)?;
    drawing.part("The agent's part, with its log at debug", &AGENT, agents)?;
    let height = drawing.down;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>Where the time goes from power-on to secret</title>\n<style>{STYLE}</style>\n{}</svg>\n",
        drawing.shapes
    ))
}

/// What is drawn so far, from the top down.
struct Drawing {
    shapes: String,
    down: f64,
}

impl Default for Drawing {
    fn default() -> Self {
        Self {
            shapes: String::new(),
            down: MARGIN,
        }
    }
}

impl Drawing {
    fn part(&mut self, title: &str, stages: &[Stage], timelines: &[Timeline]) -> Result {
        let (_, longest) = took(timelines, |one| one.from(0)).ends();
        if longest.is_nan() {
            return Err(format!("nothing to draw: {title}").into());
        }
        self.text(MARGIN, "", title)?;
        self.down += LINE;
        self.ruler(longest, timelines.len() as f64 * (ROW + GAP))?;
        for one in timelines {
            self.row(stages.len(), longest, one)?;
        }
        self.legend(stages, timelines)?;
        self.down += MARGIN;
        Ok(())
    }

    fn text(&mut self, x: f64, class: &str, text: &str) -> Result {
        let y = self.down + 0.7 * LINE;
        Ok(writeln!(
            self.shapes,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
        )?)
    }

    /// The scale above what is drawn next, and its lines behind that.
    fn ruler(&mut self, longest: f64, height: f64) -> Result {
        let step = step(longest);
        let (top, bottom) = (self.down + LINE, self.down + LINE + height);
        let mut at = 0.0;
        while at <= longest {
            let x = MARGIN + across(at, longest);
            self.text(x, "faint", &format!("{} s", at / 1e3))?;
            writeln!(
                self.shapes,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
            )?;
            at += step;
        }
        self.down += LINE + GAP;
        Ok(())
    }

    /// One boot: its stages side by side.
    fn row(&mut self, stages: usize, longest: f64, one: &Timeline) -> Result {
        let mut x = MARGIN;
        for (stage, colour) in (0..stages).zip(COLOURS) {
            let (y, width) = (self.down, across(one.took(stage), longest));
            writeln!(
                self.shapes,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{ROW}\" fill=\"{colour}\"/>"
            )?;
            x += width;
        }
        self.down += ROW + GAP;
        Ok(())
    }

    /// A line for each stage: its colour, its name and how long it takes.
    fn legend(&mut self, stages: &[Stage], timelines: &[Timeline]) -> Result {
        self.down += GAP;
        for ((number, stage), colour) in stages.iter().enumerate().zip(COLOURS) {
            let median = took(timelines, |one| one.took(number)).median();
            let y = self.down + 0.25 * LINE;
            writeln!(
                self.shapes,
                "<rect x=\"{MARGIN}\" y=\"{y:.1}\" width=\"{ROW}\" height=\"{ROW}\" fill=\"{colour}\"/>"
            )?;
            let text = format!("{}: {median:.0} ms", stage.name);
            self.text(2.0 * MARGIN, "", &text)?;
            self.down += LINE;
        }
        Ok(())
    }
}

fn across(part: f64, whole: f64) -> f64 {
    (WIDTH - 2.0 * MARGIN) * part / whole
}

/// Milliseconds between two lines of the ruler, so that there are few of them.
fn step(longest: f64) -> f64 {
    match longest {
        ..2_000.0 => 200.0,
        ..12_000.0 => 1_000.0,
        _ => 5_000.0,
    }
}
