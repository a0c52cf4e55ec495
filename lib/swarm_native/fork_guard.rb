# frozen_string_literal: true

require_relative "version"
require_relative "errors"
require_relative "library"

module SwarmNative
  # No fork while a librdkafka handle is live. Requiring this file (or all of `swarm_native`) is enough: from then on
  # Kernel#fork, Process.fork and IO.popen("-") raise {ForkRefused} while a handle is live. What execs (spawn, system,
  # backticks, IO.popen of a command) is safe and not looked at.
  #
  # @example
  #   require "swarm_native/fork_guard"
  #   producer = SwarmNative::Kafka::Producer.new("bootstrap.servers" => "127.0.0.1:9092")
  #   fork { } # raises SwarmNative::ForkRefused, which names the producer and the line that made it
  #   producer.close
  #   fork { } # forks
  module ForkGuard
    class << self
      private

      # @param handles [Array<String>] what is live, as a person is told of it
      # @return [ForkRefused]
      def refusal(handles)
        count = handles.one? ? "1 librdkafka handle is" : "#{handles.size} librdkafka handles are"
        ForkRefused.new(
          "fork refused: #{count} live: #{handles.join(", ")}. A child that inherits #{handles.one? ? "it" : "them"} " \
          "would crash, hang or lose messages. Close #{handles.one? ? "it" : "them"} before forking and open anew " \
          "afterwards, in the parent and in the child.",
          handles
        )
      end
    end
  end

  Process.singleton_class.prepend(ForkGuard::Hook)
  IO.singleton_class.prepend(ForkGuard::PopenHook)
end
