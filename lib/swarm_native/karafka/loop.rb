# frozen_string_literal: true

require_relative "child"
require_relative "live_handles"
require_relative "policy"
require_relative "probes"

module SwarmNative
  module Karafka
    # The native supervisor, driven in steps by Karafka's: that one has the main thread, the signals and the states of
    # the app, and sleeps in ours.
    #
    # @api private
    class Loop < Supervisor
      # @return [Manager]
      attr_reader :manager
      # @return [Array<Node>] the faces of the slots
      attr_reader :faces
      # @return [Child] what its nodes do
      attr_reader :child
      # @return [Hash] what was trapped before the swarm began, of signals beyond Traps::SIGNALS
      attr_reader :others
      # @return [Probes]
      attr_reader :probes
      # @return [Array<String>] the signals that came before Karafka's handlers stood
      attr_reader :early

      def initialize(manager, config, settings)
        policy = Policy.from(config, settings)
        super(**policy)
        @size = policy[:nodes]
        @manager = manager
        @second_stop_kills = settings.second_stop_kills
        @faces = []
        @owner = ::Process.pid
        @driver = Thread.current
        @early = [].freeze
        @joined = @over = @begun = false
        @live_handles = LiveHandles.new
        @probes = Probes.new
        @child = Child.new(self)
        on(*Event::NAMES) { |event| Events.publish(self, event) }
        on(:stopped) do
          @over = true
          nudge
        end
      end

      # Forks the first nodes.
      # @raise [ForkRefused] a librdkafka handle is live
      def begin
        @live_handles.before_start
        @running = true
        Traps.install(self)
        @others = Signals.beyond(Traps::SIGNALS)
        @core.start
        run_for(0.1) until begun?
        @begun = true
        return unless @refused

        finish
        raise @refused
      end

      # Does what there is to do, for so many seconds or until it is nudged.
      def run_for(seconds)
        @live_handles.waiting.each { |id, generation| fork_node(@core, id, generation, @child) }
        deadline = now + (@live_handles.none? ? seconds : [seconds, LiveHandles::RETRY].min)
        attend(@core, @child) { @core.wait_within([deadline - now, 0].max) }
      end

      # Ends a `run_for`.
      def nudge = @core.nudge

      # Runs until the swarm is over, which somebody has asked for. Elsewhere than in the thread that drives it, nothing.
      def finish
        drive(@core, @child) if Thread.current == @driver
      end

      # For when Karafka's supervisor returns, or is left by an exception: no node is left behind.
      def close
        return unless own? && @running

        stop_once
        finish
      rescue Exception # rubocop:disable Lint/RescueException -- somebody is in a hurry
        kill
        finish
        raise
      ensure
        let_go if own?
      end

      def own? = ::Process.pid == @owner

      # @return [Boolean] true once all has ended and listeners have been told
      def over? = @over

      # @return [Array<Integer>] the nodes that had to be killed to stop
      def killed = @core.outcome.first

      # @raise [Error] a crash loop ended the swarm
      def raise_crash_loop
        *, id = @core.outcome
        raise crash_loop_error(id) if id
      end

      def stopping? = @core.stopping?

      # Asks for the stop unless somebody has: how often Karafka's users ask for it changes nothing.
      def stop_once
        stop unless stopping?
      end

      # Without waiting for anything.
      def kill = @core.kill

      def snapshot(id) = nodes[id]

      # @return [Array<Node>] the faces of the slots that are in use
      def present = @faces.compact.select { |face| face.id < @size || face.alive? }

      # Changes the number of nodes.
      def scale(nodes) = super.tap { @size = nodes }

      def face(id) = id && (@faces[id] ||= Node.new(id, self))

      # In a trap handler. Karafka's own handlers call this one too, once they stand.
      def signaled(signal)
        if signal == "HUP" then restart
        elsif @joined then stop if @second_stop_kills && Traps::STOP.include?(signal) && stopping?
        else early_signal(signal)
        end
      end

      # Karafka's handlers stand.
      def joined
        @joined = true
      end

      private

      # Replaced, never changed: a handler may run at any moment.
      def early_signal(signal)
        @early = [*@early, signal].freeze
        stop if Traps::STOP.include?(signal) && (@second_stop_kills || !stopping?)
      end

      # Each slot has had its first fork, or there is a reason not to go on.
      def begun?
        stopping? || (@faces.size == @size && @core.nodes.none? { |node| node[:state] == :forking })
      end

      def let_go
        Traps.remove(self)
        Signals.put_back(@others)
        @core.close
        @running = false
      end

      def fork_node(core, id, generation, work)
        unless core.nodes[id][:state] == :forking
          @live_handles.forget(id)
          return
        end

        handles = @begun ? before_restart(id, generation) : :safe
        case handles
        when :wait then nil
        when :safe then fork_and_tell(core, id, generation) { super }
        when :anyway
          tell(Event.new(name: :error, node_id: id, message: "forked beside a live librdkafka handle, which had not gone " \
                                                             "within #{LiveHandles::PATIENCE} s"))
          ForkGuard.bypass { fork_and_tell(core, id, generation) { super } }
        end
      end

      # Users' producers are disconnected.
      def before_restart(id, generation)
        Interrupts.let_in { @live_handles.before_restart(id, generation) { |refused| tell_refusal(id, refused) } }
      end

      def tell_refusal(id, refused)
        tell(Event.new(name: :error, node_id: id, error: refused, message: "fork waits: #{refused.message}"))
      end

      # A listener that raises fails the fork, which is tried again later. Only the first start is given up for it.
      def fork_and_tell(core, id, generation)
        face = face(id)
        pid = face.pid
        begin
          instrument("swarm.manager.before_fork", face)
        rescue StandardError => e
          raise unless @begun

          return fork_failed(core, id, generation, e)
        end
        yield
        tell_forked(face) unless face.pid == pid
      end

      def tell_forked(face)
        instrument("swarm.manager.after_fork", face)
      rescue StandardError => e
        raise unless @begun

        tell(Event.new(name: :error, node_id: face.id, error: e,
                       message: "a listener of swarm.manager.after_fork raised: #{e.message} (#{e.class})"))
      end

      def instrument(name, face)
        Interrupts.let_in { ::Karafka.monitor.instrument(name, caller: manager, node: face) }
      end

      # Only the first start is given up for a refused fork, be it the first of its slot or not.
      def fork_failed(core, id, generation, error)
        return super unless @begun

        core.not_forked(id, generation)
        tell(Event.new(name: :error, node_id: id, message: "fork failed: #{error.message} (#{error.class})", error: error))
      end

      # As Supervisor does it, by Karafka's own means.
      def fork_process(id, &child)
        Interrupts.let_in do
          ForkBody.around(->(body) { run_in_child(body, child) }) { face(id).start }
        end
        face(id).pid
      rescue ::Karafka::Errors::BaseError => e
        # No interruption of ours: the fork, or what goes with it, has failed.
        raise Error, "#{e.message} (#{e.class})"
      end

      def run_in_child(body, child)
        @child.body = body
        child.call
      end

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end
  end
end
