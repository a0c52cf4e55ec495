# frozen_string_literal: true

require "json"
require "rbconfig"

# What the benchmarks share: rounds, percentiles, and the report.
#
# What is compared is measured in the same run, in turns, so that a machine that is slow for a while is slow for both.
module Bench
  ROOT = File.expand_path("..", __dir__)
  QUICK = ENV["BENCH_QUICK"] == "1"

  # What everything but the observer runs at.
  USUAL_PRIORITY = Process.getpriority(Process::PRIO_PROCESS, 0)

  module_function

  # @return [Integer] the full number, or a few where it is only to be seen that it runs
  def times(full, quick)
    QUICK ? quick : full
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # @param pid [Integer, String]
  def alive?(pid)
    File.read("/proc/#{pid}/stat")[/\) (.)/, 1] != "Z"
  rescue Errno::ENOENT, Errno::ESRCH
    false
  end

  # How often all threads of a process were switched to or from so far, voluntarily or not.
  def context_switches(pid)
    Dir.children("/proc/#{pid}/task").sum do |thread|
      File.read("/proc/#{pid}/task/#{thread}/status").scan(/ctxt_switches:\s*(\d+)/).sum { |(count)| count.to_i }
    end
  end

  # @return [Array<Integer>] how often each of these processes was switched to or from while so many seconds passed
  def switches_while(seconds, *pids)
    before = pids.map { |pid| context_switches(pid) }
    sleep seconds
    pids.zip(before).map { |pid, count| context_switches(pid) - count }
  end

  def percentile(samples, percent)
    sorted = samples.sort
    sorted[((sorted.size - 1) * percent / 100.0).round]
  end

  # Reports one figure.
  # @param name [String]
  # @param unit [String]
  # @param ours [Numeric]
  # @param others [Hash{String => Numeric}] the first one is what the ratio refers to
  # @param ratio_goal [Numeric, nil] how many times the first other one it may be at most
  # @param goal [Numeric, nil] what it may be at most
  def report(name, unit, ours, others = {}, ratio_goal: nil, goal: nil)
    reference = others.values.first
    ratio = ours.fdiv(reference).round(3) if reference&.nonzero?
    met = ratio_goal ? ratio <= ratio_goal : (ours <= goal if goal)
    words = ratio_goal ? "ratio <= #{ratio_goal.round(3)}" : ("<= #{round(goal)} #{unit}" if goal)
    result = { name: name, unit: unit, ours: round(ours), others: others.transform_values { |value| round(value) },
               ratio: ratio, goal: words, met: met }
    puts row(result)
    File.write(ENV["BENCH_JSON"], "#{JSON.generate(result)}\n", mode: "a") if ENV["BENCH_JSON"]
  end

  # Reports the median and the 99th percentile of samples that were taken in turns.
  # @param goals [Hash{Integer => Hash}] the goal of each percentile, as for {report}
  def report_samples(name, unit, ours, others, goals)
    [50, 99].each do |percent|
      report("#{name} p#{percent}", unit, percentile(ours, percent),
             others.transform_values { |samples| percentile(samples, percent) }, **goals.fetch(percent, {}))
    end
  end

  # Builds a program of the Rust workspace and returns its path.
  def cargo_example(name)
    target = ENV.fetch("CARGO_TARGET_DIR", File.join(ROOT, "target"))
    system("cargo", "build", "--quiet", "--release", "-p", "swarm_core", "--example", name, chdir: ROOT) or
      raise "building the example #{name} failed"
    File.join(target, "release", "examples", name)
  end

  # Starts Ruby code in a process of its own, with the gem loaded, and a pipe to and from it.
  # @return [IO] what it reads and writes by $stdin and $stdout
  def ruby(code, *options)
    IO.popen([RbConfig.ruby, *options, "-e", "$stdout.sync = true\n#{code}"], "r+")
  end

  # @return [String] the next line that the process prints
  def line(process)
    process.gets&.chomp or raise "a process of this benchmark has ended before its time"
  end

  # What is measured is when something happens, not when this process gets round to look. Where that is not permitted, it
  # may look a little late.
  def observe_at_once
    Process.setpriority(Process::PRIO_PROCESS, 0, -20)
  rescue Errno::EACCES, Errno::EPERM
    nil
  end

  # Keeps every core busy while the block runs, by processes of the usual priority.
  # @param already [Integer] how many cores what is measured keeps busy itself
  def with_busy_cores(already = 0)
    require "etc"
    busy = "Process.setpriority(Process::PRIO_PROCESS, 0, #{USUAL_PRIORITY})\nloop {}"
    hogs = Array.new(Etc.nprocessors - already) { Process.spawn(RbConfig.ruby, "--disable-gems", "-e", busy) }
    yield
  ensure
    hogs&.each { |pid| Process.kill(:KILL, pid) }
    hogs&.each { |pid| Process.wait(pid) }
  end

  def round(value)
    return value if value.is_a?(Integer)

    value >= 100 ? value.round : value.round(3)
  end

  def row(result)
    others = result[:others].map { |name, value| "#{name} #{value}" }
    verdict = result[:met] ? "met" : "MISSED"
    ["  #{result[:name]}: #{result[:ours]} #{result[:unit]}", *others,
     ("ratio #{result[:ratio]}" if result[:ratio]),
     ("goal #{result[:goal]}: #{verdict}" if result[:goal])].compact.join(" | ")
  end
end
