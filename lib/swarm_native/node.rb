# frozen_string_literal: true

require "io/wait"

module SwarmNative
  # A node, as its own process sees it: what the block of {Supervisor#run} gets.
  #
  # Reports never block: when the supervisor does not read, a repeated report is dropped, and the worst code is kept
  # until there is room.
  class Node
    CODES = (1..(2**32) - 1).freeze
    HEARD_QUIET = :swarm_native_heard_quiet
    TEXT_NEWLINE = "\u001e"
    LONGEST_TEXT = 4000
    private_constant :CODES, :HEARD_QUIET, :TEXT_NEWLINE, :LONGEST_TEXT

    # @return [Integer] the node's number, from 0; a replacement has the number of whom it replaces
    attr_reader :id
    # @return [Integer] the id of this process
    attr_reader :pid

    # @api private
    # In the supervisor, before the fork: what is made there costs the new process nothing.
    def initialize(id, core)
      @id = id
      @core = core
      @lock = Mutex.new
      @told = ConditionVariable.new
      @bell = nil
      @stopped_by = nil
      @quiet = false
      @unsent_ready = false
      @unsent_code = nil
    end

    # Booting is done: the node works. Without it a node counts as ready once it has reported healthy and lived for
    # `ready_after`, unless the policy says `ready: :manual`.
    # @return [true]
    def ready
      report(:ready)
    end

    # All is well. A thread says so every `report_interval`, unless the policy says `report: :manual`.
    # @return [true]
    def healthy
      report(0)
    end

    # Something is wrong with this node: the supervisor stops and replaces it.
    # @param code [Integer] from 1 to 4294967295; it stands in the events as `unhealthy(code)`
    # @return [true]
    def unhealthy(code)
      unless code.is_a?(Integer) && CODES.cover?(code)
        raise ArgumentError, "code: #{code.inspect} given, allowed: an Integer from #{CODES.first} to #{CODES.last}"
      end

      report(code)
    end

    # True once the node was told to stop: by its supervisor, or by a TERM, INT or QUIT of its own.
    def stopping? = !@stopped_by.nil?

    # @api private
    # @return [String, nil] the signal that told it to stop
    attr_reader :stopped_by

    # True once the node was told to fetch no more (TSTP): finish what there is, and wait for the stop.
    def quiet? = @quiet

    # True once the supervisor has died. With the policy's `orphan: 0` the process has ended by then.
    def orphaned? = @core.orphaned?

    # Sleeps until the node is told something: to stop, or to be quiet. Returns at once when it is stopping; of quiet
    # each thread hears once.
    # @param timeout [Numeric, nil] seconds; nil: no limit
    # @return [Boolean] true: it was told something; false: the time was over
    # @example
    #   node.wait(1.0) until node.stopping?
    def wait(timeout = nil)
      deadline = timeout && (now + timeout)
      @lock.synchronize do
        until @stopped_by || (@quiet && !Thread.current.thread_variable?(HEARD_QUIET))
          left = deadline && (deadline - now)
          return false if left && left <= 0

          @told.wait(@lock, left)
        end
        Thread.current.thread_variable_set(HEARD_QUIET, true) if @quiet
      end
      true
    end

    def inspect
      "#<#{self.class} #{id} (pid #{pid})#{" stopping" if stopping?}#{" quiet" if @quiet}>"
    end

    # @api private
    # In the new process.
    def born = @pid = Process.pid

    # @api private
    # Begins to listen for signals and for what comes on the descriptor `questions`, and, if `interval` is given, to
    # report.
    def begin(questions, interval)
      healthy if interval
      Thread.new do
        Thread.current.name = "swarm node"
        # Without it nobody would wake who waits, and nobody report.
        Thread.current.abort_on_exception = true
        listen(IO.for_fd(questions, "rb"), interval)
      end
    end

    # @api private
    # Tells the supervisor what ends the process.
    def died(error)
      say("died", error.full_message(highlight: false, order: :top))
    end

    # @api private
    # In a trap handler: notes what was told, and rings.
    def signaled(signal)
      case signal
      when *Traps::STOP then @stopped_by ||= signal
      when "TSTP" then @quiet = true
      else return
      end
      @bell&.write_nonblock("!", exception: false)
    end

    private

    # Wakes whoever waits when the bell rings, answers questions, and reports when there is nothing to do.
    def listen(questions, interval)
      due = interval && (now + interval)
      rung, @bell = IO.pipe
      # What came before there was a bell.
      wake
      sources = [rung, questions]
      loop do
        ready, = IO.select(sources, nil, nil, due && [due - now, 0].max)
        wake if ready&.include?(rung) && rung.read_nonblock(64, exception: false)
        # The pipe ends with the supervisor.
        sources.delete(questions) if ready&.include?(questions) && !answer(questions)
        next unless due && now >= due

        healthy
        due = now + interval
      end
    end

    def wake
      @lock.synchronize { @told.broadcast }
    end

    # The supervisor asks what all threads are doing.
    # @return [Boolean] false: nobody will ask any more
    def answer(questions)
      return false unless questions.read_nonblock(64, exception: false)

      (Thread.list - [Thread.current]).each do |thread|
        say("trace", [thread.inspect, *thread.backtrace].join("\n  "))
      end
      true
    end

    # One line of text for the supervisor, cut to what a pipe takes at once or not at all; dropped when it is full.
    def say(kind, text)
      line = "#{kind} #{text.scrub.strip.tr("\n", TEXT_NEWLINE)}".byteslice(0, LONGEST_TEXT).scrub("")
      @core.tell("#{line}\n")
    end

    def report(word)
      raise StaleHandle, "node #{id} is process #{pid}, and this is its child #{Process.pid}" unless Process.pid == @pid

      @lock.synchronize do
        word == :ready ? @unsent_ready = true : @unsent_code = [@unsent_code, word].compact.max
        @unsent_ready = false if @unsent_ready && @core.tell("ready\n")
        @unsent_code = nil if @unsent_code && @core.tell("#{@unsent_code}\n")
      end
      true
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
