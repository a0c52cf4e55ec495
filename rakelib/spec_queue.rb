# frozen_string_literal: true

require "etc"
require "json"
require "rbconfig"
require "tmpdir"
require_relative "../spec/support/process_table"

# Runs spec files in parallel, each in an RSpec process of its own, the longest first.
class SpecQueue
  # A file that takes longer than this hangs outside of `run_ruby`, which has deadlines of its own.
  FILE_DEADLINE = 600

  Job = Struct.new(:target, :stress) do
    def title
      "#{target}#{' (GC.stress)' if stress}"
    end

    def arguments
      [*(["--tag", "gc_stress"] if stress), target]
    end

    def environment(scratch)
      { "SPEC_SCRATCH" => scratch, "SPEC_GC_STRESS" => ("1" if stress) }
    end
  end

  Outcome = Struct.new(:job, :passed, :failed, :skipped, :seconds, :output, :failures)

  # @param root [String] the checkout
  # @param times [String] the file that remembers how long each job took
  # @param file_deadline [Numeric] seconds
  def initialize(root, times, workers: Etc.nprocessors, file_deadline: FILE_DEADLINE)
    @file_deadline = file_deadline
    @root = root
    @times_file = times
    @times = File.exist?(times) ? JSON.parse(File.read(times)) : {}
    @workers = workers
    @running = {}
    @lock = Mutex.new
  end

  # @param jobs [Array<Job>]
  # @yieldparam outcome [Outcome] as each job ends, one at a time
  # @return [Array<Outcome>]
  def run(jobs, &block)
    queue = Queue.new
    jobs.sort_by { |job| -@times.fetch(job.title) { File.size(path_of(job)) / 1000.0 } }.each { |job| queue << job }
    queue.close
    outcomes = Array.new(@workers) { Thread.new { work(queue, &block) } }.flat_map(&:value)
    File.write(@times_file, JSON.generate(@times))
    outcomes
  ensure
    @lock.synchronize { @running.values }.each(&:kill_all)
  end

  private

  # A target may name a line: spec/x_spec.rb:12.
  def path_of(job)
    File.join(@root, job.target[/\A[^:\[]+/])
  end

  def work(queue)
    outcomes = []
    while (job = queue.pop)
      outcome = Dir.mktmpdir("swarm-suite") { |scratch| run_job(job, File.realpath(scratch)) }
      @lock.synchronize do
        @times[job.title] = outcome.seconds.round(2)
        yield outcome
      end
      outcomes << outcome
    end
    outcomes
  end

  def run_job(job, scratch)
    started = now
    status, left = run_process(job, scratch)
    output = File.binread(File.join(scratch, "output")).force_encoding(Encoding::UTF_8).scrub
    outcome = Outcome.new(job, 0, 0, 0, now - started, output, [])
    count(outcome, File.join(scratch, "result.json"), status)
    fail_whole(outcome, "left processes behind:\n#{left.join("\n")}") unless left.empty?
    outcome
  end

  def run_process(job, scratch)
    rspec = [RbConfig.ruby, "-rrspec/core", "-e", "exit RSpec::Core::Runner.run(ARGV)", "--"]
    formats = ["--format", "progress", "--format", "json", "--out", File.join(scratch, "result.json")]
    pid = spawn(job.environment(scratch), *rspec, *formats, *job.arguments, chdir: @root, pgroup: true,
                in: File::NULL, %i[out err] => [File.join(scratch, "output"), "w"])
    table = ProcessTable.new(pid, scratch)
    @lock.synchronize { @running[pid] = table }
    waiter = Process.detach(pid)
    in_time = waiter.join(@file_deadline)
    left = in_time ? table.alive : []
    table.kill_all
    [in_time ? waiter.value : "no end within #{@file_deadline} s", left]
  ensure
    @lock.synchronize { @running.delete(pid) }
  end

  def count(outcome, file, status)
    result = JSON.parse(File.read(file, encoding: Encoding::UTF_8))
    summary = result.fetch("summary")
    outcome.failed = summary.fetch("failure_count") + summary.fetch("errors_outside_of_examples_count")
    outcome.skipped = summary.fetch("pending_count")
    outcome.passed = summary.fetch("example_count") - summary.fetch("failure_count") - outcome.skipped
    result.fetch("examples").each do |example|
      next unless example.fetch("status") == "failed"

      outcome.failures << "#{example.fetch('file_path').delete_prefix('./')}:#{example.fetch('line_number')} " \
                          "#{example.fetch('full_description')}"
    end
    ended_well = status.is_a?(Process::Status) && status.success?
    fail_whole(outcome, "ended with: #{status}") unless ended_well || outcome.failed.positive?
  rescue Errno::ENOENT, JSON::ParserError
    fail_whole(outcome, "gave no result: #{status}")
  end

  # What no single example is to blame for.
  def fail_whole(outcome, why)
    outcome.failed += 1
    outcome.output += "\n#{outcome.job.title} #{why}\n"
    outcome.failures << "#{outcome.job.target} #{why.lines.first.chomp}"
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
