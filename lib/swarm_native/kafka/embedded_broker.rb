# frozen_string_literal: true

require "io/wait"
require "rbconfig"
require "tempfile"

module SwarmNative
  module Kafka
    # A Kafka cluster for tests and demos: librdkafka's mock cluster, in a process of its own, on 127.0.0.1.
    #
    # It keeps messages in memory, about 5 MB a partition, and drops the oldest beyond that. Its process ends with the
    # one that started it, however that ends, and never hands anything on to other children.
    #
    # Groups of the newer protocol (`group.protocol=consumer`) miss a dead member within three seconds. A classic group
    # stands still for its session timeout whenever a member joins, and takes no commits meanwhile.
    #
    # @example
    #   SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 12 }) do |broker|
    #     SwarmNative::Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers)
    #   end
    class EmbeddedBroker
      HOST = File.join(__dir__, "broker_host.rb")
      TOPIC = /\A[a-zA-Z0-9._-]{1,249}\z/
      private_constant :HOST, :TOPIC

      # @return [String] what a client's `bootstrap.servers` is to be
      attr_reader :bootstrap_servers

      # @return [Integer] the pid of its process
      attr_reader :pid

      # Starts one and, with a block, stops it when the block has ended.
      #
      # @param topics [Hash{String => Integer}] names with their number of partitions
      # @param brokers [Integer] 1 to 100
      # @param timeout [Float] seconds that the start may take
      # @yieldparam broker [EmbeddedBroker]
      # @return [EmbeddedBroker, Object] the broker, or what the block returns
      # @raise [SwarmNative::Error] it did not start; the message says why
      def self.start(topics: {}, brokers: 1, timeout: 15.0)
        broker = new(topics, brokers, timeout)
        return broker unless block_given?

        begin
          yield broker
        ensure
          broker.stop
        end
      end

      private_class_method :new

      # Makes a topic.
      #
      # @param name [String]
      # @param partitions [Integer]
      # @return [self]
      def create_topic(name, partitions: 1)
        check_topics(name => partitions)
        command("topic #{name} #{partitions}")
      end

      # Lets every request for a topic fail.
      #
      # @param name [String]
      # @param code [Integer] Kafka's error number, such as 29 for an authorization that is missing; 0 ends it
      # @return [self]
      def fail_topic(name, code)
        check_topics(name => 1)
        command("topic_error #{name} #{Integer(code)}")
      end

      # Takes a broker down: its port refuses connections.
      #
      # @param broker [Integer] 1 is the first
      # @return [self]
      def down(broker = 1)
        command("down #{Integer(broker)}")
      end

      # Takes a broker up again.
      #
      # @param broker [Integer] 1 is the first
      # @return [self]
      def up(broker = 1)
        command("up #{Integer(broker)}")
      end

      # Ends its process. Only the first call does, and only in the process that started it.
      #
      # @return [nil]
      def stop
        return unless @owner == Process.pid && !@input.closed?

        say("stop")
        @input.close
        # Its output ends when it does.
        kill unless drained?(5.0)
        nil
      ensure
        reap if @owner == Process.pid
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{bootstrap_servers} pid=#{pid}>"
      end

      private

      def initialize(topics, brokers, timeout)
        check_topics(topics)
        unless brokers.is_a?(Integer) && brokers.between?(1, 100)
          raise ArgumentError, "brokers is an Integer from 1 to 100, not #{brokers.inspect}"
        end

        @owner = Process.pid
        @lock = Mutex.new
        spawn_host(topics, brokers)
        wait_until_ready(timeout)
      end

      def check_topics(topics)
        topics.each do |name, partitions|
          unless TOPIC.match?(name.to_s)
            raise ArgumentError, "a topic's name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', not #{name.inspect}"
          end
          next if partitions.is_a?(Integer) && partitions.between?(1, 10_000)

          raise ArgumentError, "#{name} has 1 to 10000 partitions, not #{partitions.inspect}"
        end
      end

      def spawn_host(topics, brokers)
        host_input, @input = IO.pipe
        @output, host_output = IO.pipe
        @errors = Tempfile.create("swarm_native-broker")
        File.unlink(@errors.path)
        # What the user's environment adds to Ruby (Bundler, for one) would only slow the start down.
        environment = { "RUBYOPT" => nil, "RUBYLIB" => nil }
        command = [RbConfig.ruby, *load_path.flat_map { |folder| ["-I", folder] }, HOST, Process.pid.to_s, brokers.to_s,
                   *topics.map { |name, partitions| "#{name}=#{partitions}" }]
        @pid = Process.spawn(environment, *command, in: host_input, out: host_output, err: @errors, pgroup: true,
                                                    close_others: true, chdir: "/")
      ensure
        host_input&.close
        host_output&.close
      end

      # Where the library was loaded from: it may be elsewhere than this file.
      def load_path
        library = $LOADED_FEATURES.find { |path| path.end_with?("/swarm_native/swarm_native.so", "/karafka_swarm.so") }
        [library.delete_suffix("/swarm_native/swarm_native.so").delete_suffix("/karafka_swarm.so")]
      end

      def wait_until_ready(timeout)
        line = read_line(timeout)
        if line&.start_with?("ready ")
          @bootstrap_servers = line.delete_prefix("ready ").chomp.freeze
          return
        end
        kill
        drained?(5.0)
        why = line ? line.delete_prefix("failed ").chomp : "it said nothing within #{timeout} s"
        why += complaint
        reap
        raise SwarmNative::Error, "the embedded broker did not start: #{why}"
      end

      def complaint
        @errors.rewind
        text = @errors.read.strip
        text.empty? ? "" : "\n#{text}"
      end

      def command(line)
        raise StaleHandle, "this broker was started by process #{@owner}" unless @owner == Process.pid

        @lock.synchronize do
          raise ClosedHandle, "this broker is stopped" if @input.closed?

          say(line)
          answer = read_line(10.0)
          return self if answer == "ok\n"

          raise SwarmNative::Error, "the embedded broker did not do `#{line}`: #{answer || "no answer"}#{complaint}"
        end
      end

      def say(line)
        @input.write("#{line}\n")
      rescue Errno::EPIPE
        # It has ended; its output tells so.
      end

      def read_line(timeout)
        deadline = now + timeout
        line = +""
        until line.end_with?("\n")
          return nil unless @output.wait_readable([deadline - now, 0].max)

          line << @output.read_nonblock(4096)
        end
        line
      rescue EOFError
        line.empty? ? "its process ended" : line
      end

      # True once its process has closed its output, as the kernel does for one that has ended.
      def drained?(timeout)
        deadline = now + timeout
        loop do
          return false unless @output.wait_readable([deadline - now, 0].max)

          @output.read_nonblock(4096)
        end
      rescue EOFError
        true
      end

      # It is our child and not reaped yet, so the number is still its own.
      def kill
        Process.kill(:KILL, @pid)
      rescue Errno::ESRCH
        # Somebody else has reaped it.
      end

      def reap
        return if @reaped

        @reaped = true
        Process.wait(@pid)
      rescue Errno::ECHILD
        # Somebody else has reaped it.
      ensure
        [@input, @output, @errors].each(&:close)
      end

      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end
  end
end
