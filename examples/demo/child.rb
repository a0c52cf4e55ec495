# frozen_string_literal: true

require "rbconfig"
require_relative "clock"

module Demo
  # A program of the demo in a process of its own. What it is told goes to its standard input. It ends when that
  # ends (see {Orders}), so that nothing is left behind even when the demo itself is killed.
  class Child
    # @return [Integer]
    attr_reader :pid

    # @param program [String] a file of this folder
    # @param arguments [Array<#to_s>]
    # @param log [String] the file that takes what it writes to standard error
    def initialize(program, *arguments, log:)
      @program = program
      input, @input = IO.pipe
      @output, output = IO.pipe
      @unfinished = +""
      @pid = spawn(RbConfig.ruby, File.join(__dir__, program), *arguments.map(&:to_s),
                   in: input, out: output, err: [log, "a"])
      @waiter = Process.detach(@pid)
      [input, output].each(&:close)
    end

    # @param line [#to_s]
    def tell(line)
      @input.write("#{line}\n")
    rescue Errno::EPIPE
      # It has ended, which {#running?} says too.
    end

    # @return [Array<String>] the lines it has written since the last call; it never blocks
    def lines
      @unfinished << @output.read_nonblock(65_536) while true
    rescue IO::WaitReadable, EOFError
      *finished, @unfinished = @unfinished.split("\n", -1)
      @unfinished = +(@unfinished || "")
      finished
    end

    def running?
      @waiter.alive?
    end

    # @return [Process::Status, nil]
    def status
      @waiter.value unless running?
    end

    # Tells it to stop, and where that is not enough within `timeout`, ends it by force.
    # @return [Process::Status]
    def stop(timeout = 10)
      tell("stop")
      unless @waiter.join(timeout)
        Process.kill(:KILL, @pid)
        @waiter.join
      end
      @waiter.value
    end

    def to_s
      "#{@program} (pid #{@pid})"
    end
  end
end
