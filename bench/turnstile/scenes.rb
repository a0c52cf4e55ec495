# frozen_string_literal: true

# Runs in a Ruby process of its own: ARGV has the scene and its numbers. Prints one line of JSON a round: what it
# measured with the turnstile off, and with it on.

require "json"
require "swarm_native/turnstile"

Turnstile = SwarmNative::Turnstile

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

# Threads that burn CPU and count what they got done.
class Busy
  def initialize(count, priority: 0)
    @done = Array.new(count, 0)
    @over = false
    @threads = Array.new(count) do |at|
      Thread.new do
        Thread.current.priority = priority
        until @over
          100.times { |number| number * number }
          @done[at] += 1
        end
      end
    end
  end

  def done = @done.dup

  def stop
    @over = true
    @threads.each(&:join)
  end
end

# Runs beside busy threads for a while: what `yield` gives, and the work of the busy threads.
def beside(busy, seconds, priority: 0)
  crowd = Busy.new(busy, priority: priority)
  over = false
  results = yield -> { over }
  # Past the start, where all are new.
  sleep 0.3
  results.each(&:clear)
  before, started = crowd.done, now
  sleep seconds
  work = crowd.done.zip(before).map { |after, first| after - first }
  took = now - started
  samples = results.flat_map(&:dup)
  over = true
  crowd.stop
  { samples: samples, took: took, work: work.sum / took, fair: busy.zero? ? 1 : work.min.fdiv([work.max, 1].max) }
end

# How late light threads come back from waits of 2 ms.
def wake_ups(busy, light, seconds, priority: 0)
  threads = []
  result = beside(busy, seconds, priority: priority) do |over|
    Array.new(light) do
      late = []
      threads << Thread.new do
        until over.call
          due = now + 0.002
          sleep 0.002
          late << (now - due)
        end
      end
      late
    end
  end
  threads.each(&:join)
  result
end

# Two threads pass a token to and fro: how long each round trip took.
def round_trips(busy, seconds)
  there, back = Queue.new, Queue.new
  threads = []
  result = beside(busy, seconds) do |over|
    trips = []
    threads << Thread.new { while there.pop do back << true end }
    threads << Thread.new do
      until over.call
        started = now
        there << true
        back.pop
        trips << (now - started)
      end
      there << nil
    end
    [trips]
  end
  threads.each(&:join)
  result
end

# Threads that read and write pipes and nothing else: rounds a second.
def pure_io(threads, seconds)
  over = false
  counts = Array.new(threads, 0)
  running = Array.new(threads) do |at|
    reader, writer = IO.pipe
    Thread.new do
      until over
        writer.write("x")
        reader.readpartial(1)
        counts[at] += 1
      end
    end
  end
  sleep 0.2
  before, started = counts.sum, now
  sleep seconds
  rate = (counts.sum - before) / (now - started)
  over = true
  running.each(&:join)
  { samples: [1.0 / rate], took: seconds, work: rate, fair: 1 }
end

def percentile(samples, percent)
  sorted = samples.sort
  sorted[((sorted.size - 1) * percent / 100.0).round]
end

def figures(result)
  samples = result[:samples]
  { p50: percentile(samples, 50), p99: percentile(samples, 99), rate: samples.size / result[:took], work: result[:work],
    fair: result[:fair] }
end

scene, busy, light, seconds, budget, rounds = ARGV
busy, light, rounds = Integer(busy), Integer(light), Integer(rounds)
seconds, budget = Float(seconds), Float(budget)

play = lambda do |priority|
  case scene
  when "wake_ups" then wake_ups(busy, light, seconds, priority: priority)
  when "round_trips" then round_trips(busy, seconds)
  when "pure_io" then pure_io(light, seconds)
  end
end

rounds.times do
  off = figures(play.call(0))
  low = figures(play.call(-3)) if scene == "wake_ups"
  Turnstile.enable(budget: budget)
  abort Turnstile.explain unless Turnstile.mode == :all
  on = nil
  stats = Turnstile.measure { on = figures(play.call(0)) }
  Turnstile.disable
  puts JSON.generate(off: off, low: low, on: on.merge(share: stats.share, nudges: stats.nudges / stats.time))
  $stdout.flush
end
