# frozen_string_literal: true

require "rbconfig"
require "tmpdir"
require_relative "process_table"
require_relative "wait_until"

# Runs Ruby code in a process of its own: for every example that forks, signals, exits or can hang.
#
# The process leads a process group of its own. When it has not ended at the deadline, the example fails with the
# backtraces of all threads of all its processes, and all of them are killed. It fails as well when the process ends but
# leaves others behind.
module RubyProcess
  # What a process of `run_ruby` left: its output, its errors and its Process::Status.
  Result = Struct.new(:out, :err, :status) do
    def success?
      status.success?
    end

    def inspect
      "#{status}\n--- stdout\n#{out}\n--- stderr\n#{err}\n---"
    end
  end

  # Not one of Ruby's named signals, which the specs need for themselves.
  BACKTRACE_SIGNAL = 50

  # How long what was left behind may take to go by itself: an orphaned node needs milliseconds to notice.
  LEAK_GRACE = 1.0

  # The process while it runs, for the block of `run_ruby`.
  class Running
    # @return [Integer] also the id of its process group
    attr_reader :pid

    # @return [String] the folder it runs in; gone after the example
    attr_reader :scratch

    # @yieldreturn [Boolean] whether it has ended, with all that it started
    def initialize(pid, scratch, &ended)
      @pid = pid
      @scratch = scratch
      @ended = ended
    end

    # What it has written so far.
    def out = File.read(File.join(scratch, "stdout"))
    def err = File.read(File.join(scratch, "stderr"))

    # Waits until its output matches.
    # @return [MatchData]
    def wait_for(pattern, deadline = 10)
      wait_until(deadline, "output like #{pattern.inspect}") { out.match(pattern) }
    end

    # Waits for something that it does. What it has not done by its end does not come any more: then this fails at once,
    # and the example shows what it has written.
    # @return what the block gave, as soon as that is true
    def wait_until(deadline, what, &condition)
      WaitUntil.wait_until(deadline, what) do
        ended = @ended.call
        found = condition.call
        raise WaitUntil::Expired, "#{what} does not come about any more: the process has ended" if ended && !found

        found
      end
    end

    def signal(name)
      Process.kill(name, pid)
    end
  end

  # @param code [String] runs with `require "swarm_native"` done and `wait_until` at hand
  # @param deadline [Numeric] seconds until it counts as hanging
  # @param env [Hash{String => String, nil}] added to this process's environment
  # @param args [Array<String>] its ARGV
  # @param input [String] its standard input
  # @param library [String, nil] what to require first
  # @param ruby [Array<String>] options of Ruby itself
  # @param leak [Boolean] whether it may leave processes behind; they are killed all the same
  # @yieldparam running [Running] the block runs beside the process; the deadline holds for the process all the same
  # @return [Result]
  def run_ruby(code, deadline: 10, env: {}, args: [], input: "", library: "swarm_native", ruby: [], leak: false, &block)
    # A scratch folder inside the scratch folder of an outer run lets the outer runner find what the inner one started.
    Dir.mktmpdir("swarm-spec", ENV["SPEC_SCRATCH"]) do |scratch|
      scratch = File.realpath(scratch)
      File.write(File.join(scratch, "example.rb"), code)
      File.write(File.join(scratch, "stdin"), input)
      pid = RubyProcess.start(scratch, env, ruby, library, args)
      RubyProcess.finish(pid, scratch, deadline * WaitUntil::STRETCH, leak, block)
    end
  end

  class << self
    def start(scratch, env, ruby, library, args)
      marks = { "SPEC_SCRATCH" => scratch, "SPEC_BACKTRACE_SIGNAL" => BACKTRACE_SIGNAL.to_s, "SPEC_REQUIRE" => library }
      spawn(marks.merge(env), RbConfig.ruby, *ruby, "-r#{File.join(__dir__, 'prelude.rb')}", "example.rb", *args,
            chdir: scratch, pgroup: true, in: File.join(scratch, "stdin"),
            out: [File.join(scratch, "stdout"), "a"], err: [File.join(scratch, "stderr"), "a"])
    end

    def finish(pid, scratch, deadline, leak, block)
      table = ProcessTable.new(pid, scratch)
      waiter = Process.detach(pid)
      overdue = Thread.new { overdue_report(waiter, deadline, table, scratch) }
      failure = block && failure_of { block.call(running(pid, scratch, waiter, table)) }
      table.kill_all if failure
      report = overdue.value
      result = Result.new(*%w[stdout stderr].map { |name| File.read(File.join(scratch, name)) }, waiter.value)
      raise_failure("did not end within #{deadline} s and was killed", result, report) if report
      raise failure.exception("#{failure.message}\n#{result.inspect}") if failure

      check_leak(table, scratch, result) unless leak
      result
    ensure
      table&.kill_all
    end

    private

    def running(pid, scratch, waiter, table)
      Running.new(pid, scratch) { !waiter.alive? && table.alive.empty? }
    end

    # @return [String, nil] nil when the process ended in time
    def overdue_report(waiter, deadline, table, scratch)
      return if waiter.join(deadline)

      where_they_stand(table, scratch).tap { table.kill_all }
    end

    # Failed expectations are not StandardErrors.
    def failure_of
      yield
      nil
    rescue StandardError, RSpec::Expectations::ExpectationNotMetError => e
      e
    end

    def check_leak(table, scratch, result)
      WaitUntil.wait_until(LEAK_GRACE) { table.alive.empty? }
    rescue WaitUntil::Expired
      raise_failure("left processes behind", result, where_they_stand(table, scratch))
    end

    def where_they_stand(table, scratch)
      found = table.alive
      kernel = found.to_h { |entry| [entry.pid, table.kernel_view(entry.pid)] }
      asked = found.select { |entry| table.catches?(entry.pid, BACKTRACE_SIGNAL) && ask_for_backtraces(entry.pid) }
      wait_for_answers(asked.map { |entry| answer_of(entry, scratch) })
      found.map { |entry| [entry, ruby_view(answer_of(entry, scratch)), kernel[entry.pid]].join("\n") }.join("\n")
    end

    # A process that is stopped has to go on to answer.
    def ask_for_backtraces(pid)
      Process.kill(BACKTRACE_SIGNAL, pid)
      Process.kill(:CONT, pid)
    rescue Errno::ESRCH
      nil
    end

    def wait_for_answers(answers)
      WaitUntil.wait_until(2) { answers.all? { |path| File.exist?(path) } }
    rescue WaitUntil::Expired
      # Whoever holds the GVL in C code cannot answer; the kernel's view is printed anyway.
    end

    def answer_of(entry, scratch)
      File.join(scratch, "backtraces.#{entry.pid}")
    end

    def ruby_view(path)
      File.exist?(path) ? File.read(path).chomp : "  (no Ruby backtraces: its main thread does not run Ruby code)"
    end

    def raise_failure(what, result, report)
      RSpec::Expectations.fail_with("the Ruby process of the example #{what}\n#{report}\n#{result.inspect}")
    end
  end
end
