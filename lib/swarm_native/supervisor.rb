# frozen_string_literal: true

require_relative "event"
require_relative "interrupts"
require_relative "logger"
require_relative "node"
require_relative "traps"
require_relative "turnstile"

module SwarmNative
  # Forks nodes, watches them, and replaces, stops and reaps them. It sleeps until something happens.
  #
  # @example
  #   supervisor = SwarmNative::Supervisor.new(nodes: 2)
  #   supervisor.on(:node_exited) { |event| puts event }
  #   supervisor.run do |node|
  #     node.ready
  #     puts "node #{node.id} works" until node.wait(1.0)
  #   end
  #
  # Signals while it runs: TERM, INT and QUIT stop the swarm (a second one, later than a second, kills it), TSTP makes
  # it quiet, HUP restarts its nodes one after the other, TTIN is passed on to them. What was trapped before `run` is
  # called too, and put back afterwards.
  class Supervisor
    # What `nodes` tells of one node. Times are Time objects; `last_report` is the code that its process reported last,
    # and `reports` how often it has.
    Snapshot = Struct.new(:id, :pid, :state, :since, :restarts, :started_at, :last_report_at, :last_report, :reports,
                          :restart_at, :memory, :last_exit, :last_reason, keyword_init: true)

    # @return [Array<Array(String, String, String, String)>] each setting: name, default, what is allowed, why
    def self.settings = Core.settings

    # @param settings [Hash{Symbol => Object}] see {Supervisor.settings}; seconds, bytes, or words
    # @raise [ConfigurationError] that lists every problem at once
    def initialize(**settings)
      @settings = settings.freeze
      @core = Core.new(@settings)
      @listeners = Hash.new { |listeners, name| listeners[name] = [] }
      @hooks = { before_fork: [], after_fork: [] }
      @running = false
      @refused = @todo = nil
    end

    # Calls the block at these events, in the supervisor's process and thread. One that raises is reported as `:error`.
    # @param names [Array<Symbol>] of {Event::NAMES}
    # @yieldparam event [Event]
    # @return [self]
    def on(*names, &block)
      raise ArgumentError, "on needs a block" unless block
      raise ArgumentError, "on needs the names of events: #{Event::NAMES.join(", ")}" if names.empty?

      unknown = names - Event::NAMES
      unless unknown.empty?
        raise ArgumentError, "#{unknown.map(&:inspect).join(", ")}: no such event, allowed: #{Event::NAMES.join(", ")}"
      end

      names.each { |name| @listeners[name] << block }
      self
    end

    # Calls the block in the supervisor before each fork. One that raises fails that fork, which is tried again later.
    # @return [self]
    def before_fork(&block)
      @hooks[:before_fork] << (block or raise ArgumentError, "before_fork needs a block")
      self
    end

    # Calls the block in each node before its work. One that raises ends the node, as the work itself would; the message
    # and the backtrace stand in the `:node_exited` event.
    # @yieldparam node [Node]
    # @return [self]
    def after_fork(&block)
      @hooks[:after_fork] << (block or raise ArgumentError, "after_fork needs a block")
      self
    end

    # Calls the block in the supervisor after each end of a node: `on(:node_exited)`.
    # @yieldparam event [Event]
    # @return [self]
    def on_node_exit(&block)
      on(:node_exited, &block)
    end

    # Runs the swarm, and returns when all nodes have stopped. The block runs in each node; when it returns, the node
    # ends.
    # @yieldparam node [Node]
    # @return [self]
    # @raise [ForcefulShutdown] nodes had to be killed to stop; uncaught, it makes the exit code 2
    # @raise [ForkRefused] a librdkafka handle was live when the first nodes were to be forked
    # @raise [Error] a crash loop ended the swarm (`on_crash_loop: :stop`)
    def run(&work)
      raise ArgumentError, "run needs a block: the work of a node" unless work
      raise Error, "this supervisor runs already" if @running

      warn_of_strangers
      Turnstile.send(:paused) { Interrupts.held_back { supervise(work) } }
      raise_outcome(*@core.outcome)
      self
    end

    # Stops the swarm: nodes get TERM, and KILL after `shutdown_timeout`. From any thread and from a trap handler; the
    # same holds for the other requests. Called again more than a second later, it kills at once.
    # @return [self]
    def stop = ask(:stop)

    # Tells nodes to fetch no more. Nothing is restarted from then on.
    # @return [self]
    def quiet = ask(:quiet)

    # Replaces all nodes, each once the one before has been replaced and is ready.
    # @return [self]
    def restart = ask(:restart)

    # Changes the number of nodes: up at once, down from the highest id, gracefully.
    # @param nodes [Integer]
    # @return [self]
    def scale(nodes)
      unless nodes.is_a?(Integer) && (1..10_000).cover?(nodes)
        raise ArgumentError, "nodes: #{nodes.inspect} given, allowed: an Integer from 1 to 10000"
      end

      ask(:scale, nodes)
    end

    # Sends all nodes a signal.
    # @param signal [String, Symbol, Integer] "TTIN", :TTIN, "SIGTTIN" or 21
    # @return [self]
    def signal(signal)
      number = signal.is_a?(Integer) ? signal : Signal.list[signal.to_s.delete_prefix("SIG")]
      unless number && Signal.list.value?(number) && number.positive?
        raise ArgumentError, "#{signal.inspect}: no such signal, allowed: a name or number of Signal.list"
      end

      ask(:signal, number)
    end

    # What is known of each node now.
    # @return [Array<Snapshot>]
    def nodes
      now = Time.now
      @core.nodes.map do |node|
        %i[since started_at last_report_at restart_at].each { |at| node[at] &&= now + node[at] }
        node[:last_exit] &&= ExitStatus.new(*node[:last_exit])
        Snapshot.new(**node).freeze
      end
    end

    # @api private
    # In a trap handler.
    def signaled(signal)
      case signal
      when *Traps::STOP then stop
      when "TSTP" then quiet
      when "HUP" then restart
      when "TTIN" then signal("TTIN")
      end
    end

    private

    def ask(request, *arguments)
      @core.public_send(request, *arguments)
      self
    end

    def supervise(work)
      # One that has run is over. One that has not may have been asked to stop already.
      core = @core = @core.stopping? ? Core.new(@settings) : @core
      @refused = @todo = nil
      @running = true
      Traps.install(self)
      begin
        warm_up if core.settings[:warmup]
        core.start
        drive(core, work)
      ensure
        wind_up(core, work)
      end
    ensure
      Traps.remove(self)
      core.close
      @running = false
    end

    def warn_of_strangers
      return unless Init.adopts?

      SwarmNative.logger&.warn("process #{Process.pid} gets the children of the dead, and does not reap them: begin " \
                               "the program with SwarmNative::Init.start, or run it below an init")
    end

    # Does what only Ruby can do, as long as there is something.
    def drive(core, work)
      attend(core, work) { core.wait }
    end

    # Does one thing after the other. What is raised at this thread meanwhile comes between them, so that it is neither
    # lost in the rescue of a hook or a listener, nor loses what was to be done: that is done when we are here again.
    # @yield waits for the next thing; nil ends it
    def attend(core, work, &wait)
      Interrupts.held_back do
        while (@todo ||= Interrupts.let_in_by_waiting(&wait))
          Interrupts.let_in { Thread.pass } if Thread.pending_interrupt?
          todo, @todo = @todo, nil
          serve(core, todo, work)
        end
      end
    end

    def serve(core, todo, work)
      todo.is_a?(Array) ? fork_node(core, *todo.drop(1), work) : tell(event_of(todo))
    end

    # `run` is left by an exception: no node is left behind.
    def wind_up(core, work)
      return unless core.started?

      core.stop
      drive(core, work)
    rescue Exception # rubocop:disable Lint/RescueException -- somebody is in a hurry
      core.kill
      drive(core, work)
      raise
    end

    def warm_up
      return Process.warmup if Process.respond_to?(:warmup)

      GC.start
      GC.compact if GC.respond_to?(:compact)
    rescue NotImplementedError
      nil # not every platform can compact
    end

    # @see Birth in ext/swarm_core/src/os/birth.rs
    def fork_node(core, id, generation, work)
      @hooks[:before_fork].each { |hook| Interrupts.let_in(&hook) }
    rescue StandardError => e
      fork_failed(core, id, generation, e)
    else
      fork_and_adopt(core, id, generation, work)
    end

    def fork_and_adopt(core, id, generation, work)
      interruption = nil
      begin
        return unless core.prepare(id, generation)
        node = Node.new(id, core)
        # Ruby forgets at a fork what is pending, in the parent too: let it come, and fork another time. Nothing stands
        # between this and the fork in which more could come.
        return core.not_forked(id, generation) if Thread.pending_interrupt?

        begin
          pid = fork_or_leave(id) { be_node(core, node, work) }
        rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised again
          # What Thread#raise brings may come with the return of the fork, and then there is a child all the same.
          pid = core.last_child
          interruption = e if pid || came_from_elsewhere?(e)
          raise unless pid
        end
        core.forked(pid)
      rescue StandardError => e
        fork_failed(core, id, generation, e) unless interruption.equal?(e)
        reap(pid) if pid
      ensure
        core.not_forked(id, generation) unless pid
      end
      raise interruption if interruption
    end

    # A fork that fails raises the kernel's errors or ours, and a hook of another gem raises in its own file. What is
    # raised in the midst of this file came by Thread#raise.
    def came_from_elsewhere?(error)
      return false if error.is_a?(SystemCallError) || error.is_a?(Error)

      # Ruby's own methods that are written in Ruby (`Ractor.current`) have no file.
      files = error.backtrace_locations.to_a.lazy.filter_map(&:absolute_path)
      files.first&.start_with?(__dir__) || false
    end

    # A `Process._fork` hook of another gem may raise in the child. The exception then arrives here, in the child, which
    # must not go on as a second supervisor.
    def fork_or_leave(id, &child)
      supervisor = Process.pid
      fork_process(id, &child)
    ensure
      unless Process.pid == supervisor
        warn "a Process._fork hook raised in the child: #{$!.full_message}" if $! # rubocop:disable Style/SpecialGlobalVars
        exit!(1)
      end
    end

    # Interrupts are let through meanwhile: a thread that another gem's hook starts in the child inherits what holds them
    # back, and could then be neither ended nor timed out.
    # @return [Integer] the pid of a new process that runs the block and ends
    def fork_process(_id, &child)
      Interrupts.let_in { Process.fork(&child) }
    end

    # A child that could not be taken in leaves by itself, since nobody tells it to go.
    def reap(pid)
      Process.wait(pid)
    rescue Errno::ECHILD
      nil
    end

    def fork_failed(core, id, generation, error)
      core.not_forked(id, generation)
      if error.is_a?(ForkRefused) && generation == 1 && !core.stopping?
        @refused ||= error
        core.stop
      else
        tell(Event.new(name: :error, node_id: id, message: "fork failed: #{error.message} (#{error.class})", error: error))
      end
    end

    # The child, from its first line to its end.
    def be_node(core, node, work)
      failed = begin
        core.born
        nil
      rescue StandardError => e
        e # told once there is somebody to tell
      end
      node.born
      Traps.hand_over(node)
      core.release_signals
      questions = core.wait_for_go or exit!(1)
      work_and_leave(node, work, core.settings, questions, failed)
    end

    def work_and_leave(node, work, settings, questions, failed)
      raise failed if failed

      # Told to stop before it began: it was forked for nothing.
      unless node.stopping?
        node.begin(questions, settings[:reports] ? settings[:report_interval] : nil)
        @hooks[:after_fork].each { |hook| hook.call(node) }
        work.call(node)
      end
      leave(0) unless settings[:at_exit]
    rescue SystemExit => e
      settings[:at_exit] ? raise : leave(e.status)
    rescue Exception => e # rubocop:disable Lint/RescueException -- the process ends with it
      node.died(e)
      raise if settings[:at_exit]

      $stderr.write(e.full_message)
      leave(1)
    end

    # Ends the process without its at_exit blocks.
    def leave(status)
      [$stdout, $stderr].each(&:flush)
      exit!(status)
    end

    def event_of(told)
      status = told.delete(:status)
      exit_status = status && ExitStatus.new(told[:pid], status.first)
      Event.new(**told, exit_status: exit_status)
    end

    def tell(event)
      log(event)
      @listeners[event.name].each do |listener|
        Interrupts.let_in { listener.call(event) }
      rescue StandardError => e
        failed = Event.new(name: :error, node_id: event.node_id, error: e,
                           message: "a listener of #{event.name} raised: #{e.message} (#{e.class})")
        # A listener of errors that raises must not be told of its own error for ever.
        event.name == :error ? log(failed) : tell(failed)
      end
    end

    SEVERITY = Hash.new("info").merge!(error: "error", crash_loop: "error", node_killed: "warn",
                                       node_unhealthy: "warn", replacement_waits: "warn").freeze
    private_constant :SEVERITY

    def log(event)
      logger = SwarmNative.logger or return
      Interrupts.let_in { logger.public_send(SEVERITY[event.name], event.to_s) }
    rescue StandardError
      nil # a log that cannot be written must not end the swarm
    end

    def raise_outcome(killed, lost, crash_loop)
      raise @refused if @refused
      raise crash_loop_error(crash_loop) if crash_loop
      return if killed.empty? && lost.empty?

      error = ForcefulShutdown.new(forceful_message(killed, lost))
      owner = Process.pid
      # Uncaught, it ends the process, and Ruby's exit code for that would be 1.
      at_exit { exit 2 if $!.equal?(error) && Process.pid == owner } # rubocop:disable Style/SpecialGlobalVars
      raise error
    end

    def crash_loop_error(id)
      Error.new("node #{id} is in a crash loop, which ends the swarm (on_crash_loop: :stop)")
    end

    def forceful_message(killed, lost)
      message = "nodes #{killed.uniq.join(", ")} did not stop in time and were killed"
      lost.empty? ? message : "#{message}; nodes #{lost.join(", ")} did not end even so"
    end
  end
end
