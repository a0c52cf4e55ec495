# frozen_string_literal: true

# Draws who had the GVL over 300 ms, without and with the turnstile, from what the threads saw themselves:
#
#   ruby bench/turnstile/picture.rb docs/turnstile.svg
#
# A thread that runs looks at the clock all the time. A gap in what it sees is time in which another had the GVL.

require "swarm_native/turnstile"

GAP = 0.000_1
SPAN = 0.3

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

# Notes the spans in which the calling thread ran.
def note_runs(spans, over)
  start = last = now
  until over.call
    seen = now
    if seen - last > GAP
      spans << [start, last]
      start = seen
    end
    last = seen
  end
  spans << [start, last]
end

# @return [Array] the spans of two busy threads, and of a light one what it waited for the GVL and when it ran
def watch
  over = false
  busy = [[], []]
  light = []
  threads = busy.map { |spans| Thread.new { note_runs(spans, -> { over }) } }
  threads << Thread.new do
    until over
      due = now + 0.010
      sleep 0.010
      got = now
      nil while now - got < 0.000_3
      light << [due, got, now]
    end
  end
  sleep 1.0
  from = now
  sleep SPAN
  over = true
  threads.each(&:join)
  cut = ->(span) { span.map { |at| ((at - from) / SPAN).clamp(0, 1) } }
  visible = ->(span) { span.first < 1 && span.last.positive? }
  [busy.map { |spans| spans.map(&cut).select(&visible) }, light.map(&cut).select(&visible)]
end

WIDTH = 900
LEFT = 150

def draw(plain, turned)
  rows = []
  y = 34
  [["Ruby alone", plain], ["with the turnstile", turned]].each do |title, (busy, light)|
    rows << %(<text x="10" y="#{y}" font-weight="bold">#{title}</text>)
    y += 12
    [["busy 1", busy[0], "#888"], ["busy 2", busy[1], "#bbb"]].each do |name, spans, colour|
      rows << %(<text x="10" y="#{y + 14}">#{name}</text>)
      spans.each { |from, to| rows << bar(from, to, y, colour) }
      y += 26
    end
    rows << %(<text x="10" y="#{y + 14}">light: waits, runs</text>)
    light.each { |due, got, done| rows << bar(due, got, y, "#e8a0a0") << bar(got, done, y, "#1a6", 1.5) }
    y += 52
  end
  (0..6).each do |step|
    x = LEFT + (WIDTH * step / 6.0)
    rows << %(<text x="#{x}" y="#{y - 8}" text-anchor="middle">#{step * 50} ms</text>)
  end
  <<~SVG
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 #{LEFT + WIDTH + 30} #{y}" font-family="sans-serif" font-size="13">
    <title>Who had the GVL over 300 ms: two busy threads, and one that waits 10 ms, works 0.3 ms, and so on</title>
    <rect width="100%" height="100%" fill="white"/>
    #{rows.join("\n")}
    </svg>
  SVG
end

def bar(from, to, y, colour, least = 0.2)
  x = LEFT + (from * WIDTH)
  %(<rect x="#{x.round(2)}" y="#{y}" width="#{[(to - from) * WIDTH, least].max.round(2)}" height="18" fill="#{colour}"/>)
end

plain = watch
SwarmNative::Turnstile.enable
abort SwarmNative::Turnstile.explain unless SwarmNative::Turnstile.mode == :all
turned = watch
SwarmNative::Turnstile.disable
File.write(ARGV.fetch(0), draw(plain, turned))
