# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Karafka's supervisor sleeps in the native one's loop. `karafka swarm` makes its supervisor itself, so there is no
    # setting to put another in its place.
    #
    # @api private
    module Supervision
      # Karafka's own deadline is there for when ours has failed.
      MARGIN = 2_000

      def self.join
        ::Karafka::Swarm::Supervisor.prepend(self)
      end

      def run
        unless manager.is_a?(Manager)
          raise Error, "config.internal.swarm.manager is #{manager.class}, and swarm_native needs #{Manager}: set no other"
        end

        # Nodes have it; whatever started it before, the supervisor has no thread besides.
        Turnstile.send(:paused) { super }
      ensure
        manager.loop&.close if manager.is_a?(Manager)
      end

      private

      # Where Karafka waits for a signal or for the time to look after its nodes, the native loop runs.
      def lock
        first unless @first_done
        native.run_for(supervision_interval / 1000.0) unless over_by_itself?
        end_by_itself if over_by_itself?
      end

      def unlock
        native.nudge
      end

      # Also while quiet and stopping: who listens for it concludes from its absence that the supervisor hangs.
      def control
        manager.control unless ::Karafka::App.terminated?
      end

      # The native loop kills nodes that do not stop in time, and later than Karafka would.
      def shutdown_timeout
        @swarm_native_shutdown_timeout ||=
          (Policy.kill_after(::Karafka::App.config) * 1000).ceil + MARGIN - Policy.grace
      end

      def native = manager.loop

      # Nobody has asked Karafka's supervisor to stop, which would supervise nothing for ever.
      def over_by_itself? = native.over? && !@stopping && !native.early.intersect?(Traps::STOP)

      # @raise [Error] a crash loop ended the swarm
      def end_by_itself
        native.raise_crash_loop
        stop
      end

      # Karafka's handlers stand, the app is supervised: what came before is done now.
      def first
        @first_done = true
        native.probes.find
        native.early.each do |signal|
          Thread.new do
            process.send(:notice_signal, :"SIG#{signal}")
            do_early(signal)
            unlock
          end
        end
      end

      def do_early(signal)
        case signal
        when *Traps::STOP then stop
        when "TSTP" then quiet
        when "TTIN" then native.signal(signal)
        end
      end
    end
  end
end
