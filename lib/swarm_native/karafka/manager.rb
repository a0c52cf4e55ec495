# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Karafka's manager of nodes as a face of the native supervisor, which does by itself what Karafka's manager does
    # when it is asked to: see that nodes live, report and stop in time, and replace them.
    class Manager < ::Karafka::Swarm::Manager
      # @api private
      # @return [Loop, nil]
      attr_reader :loop

      # Forks the first nodes.
      def start
        config = ::Karafka::App.config
        Karafka.loop = @loop = Loop.new(self, config, Karafka.settings)
        SwarmNative.logger = ::Karafka.logger unless SwarmNative.instance_variable_defined?(:@logger)
        @loop.begin
      end

      # @return [Array<Node>] those that there are to be, and those that are yet to go since there are to be fewer
      def nodes = @loop ? @loop.present : []

      # Tells nodes to fetch no more. From then on nothing is restarted.
      def quiet = @loop&.quiet

      # Tells nodes to stop. Those that do not in time are killed.
      def stop
        @asked_to_stop = true
        @loop&.stop_once
      end

      # Kills all nodes.
      def terminate
        # Who does this knows, and asks from now on only whether they are gone.
        @asked_to_stop = false
        @loop&.kill
      end

      # Returns when all processes are gone from the process table.
      def cleanup
        @loop.finish if @loop && !@loop.over?
      end

      def signal(signal) = @loop&.signal(signal)

      # @return [Boolean]
      # @raise [Karafka::Errors::ForcefulShutdownError] once, where nodes had to be killed to stop: Karafka tells of it
      #   and ends with its exit code for that
      def stopped?
        return true unless @loop
        return false unless @loop.over?

        if @asked_to_stop && @loop.killed.any?
          @asked_to_stop = false
          raise ::Karafka::Errors::ForcefulShutdownError
        end
        true
      end

      # Says that somebody looks after the nodes, for listeners such as the Kubernetes one. There is nothing to do.
      def control
        monitor.instrument("swarm.manager.control", caller: self) {}
      end

      # Replaces all nodes, one after the other, each once the one before is ready. So does SIGHUP.
      def restart = @loop.restart

      # @param nodes [Integer] how many there are to be
      def scale(nodes) = @loop.scale(nodes)
    end
  end
end
