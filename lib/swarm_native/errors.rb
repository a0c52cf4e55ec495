# frozen_string_literal: true

module SwarmNative
  # Every error that this gem raises by itself. Bad arguments raise ArgumentError or TypeError, and the kernel's
  # refusals raise `Errno::*`, as everywhere in Ruby.
  class Error < StandardError; end

  # Settings that cannot be. The message lists every problem at once, each with the value given and the values allowed.
  class ConfigurationError < Error; end

  # A fork was asked for while librdkafka handles were live in the process.
  class ForkRefused < Error
    # @return [Array<String>] the live handles: class, name and the line that made each
    attr_reader :handles

    # @param message [String]
    # @param handles [Array<String>]
    def initialize(message = nil, handles = [])
      super(message)
      @handles = handles.freeze
    end
  end

  # A handle is used in a process that did not make it.
  class StaleHandle < Error; end

  # A handle is used after `close`, or was closed while another thread waited on it.
  class ClosedHandle < Error; end

  # A handle is used while it rests: who raises this within the gem makes it anew.
  class RestingHandle < ClosedHandle; end
  private_constant :RestingHandle

  # Nodes had to be killed to stop the swarm.
  class ForcefulShutdown < Error; end
end
