// One app: its identity, its storage without shared keys, its namespace, its plan (Flex Consumption takes one app per plan).

@description('Name of the app within the environment: its azd service name.')
param key string

@description('What makes names unique in the cloud.')
param token string
param location string
param tags object
param workflows array
param settings object
param serviceBusTier string
param appSubnetId string
param endpointSubnetId string
param dnsZoneIds object
param workspaceId string
param componentName string
param openTelemetry bool
param pythonVersion string
param maximumInstanceCount int
param alwaysReadyTrackers int

var isPrivate = !empty(appSubnetId)
var name = 'func-${key}-${token}'
var packages = 'app-package'
var roles = loadJsonContent('../built-in-roles.json')
var endpoint = environment().resourceManager
var storageEndpointKinds = isPrivate ? ['blob', 'queue', 'table'] : []
var trackers = [
  { name: 'function:track', instanceCount: alwaysReadyTrackers }
]
var given = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
  AzureWebJobsStorage__queueServiceUri: storage.properties.primaryEndpoints.queue
  AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
  ServiceBusConnection__fullyQualifiedNamespace: bus.outputs.fullyQualifiedNamespace
  ServiceBusConnection__credential: 'managedidentity'
  ServiceBusConnection__clientId: identity.properties.clientId
  AZURE_CLIENT_ID: identity.properties.clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  PYTHON_THREADPOOL_THREAD_COUNT: '32'
  ARM_ENDPOINT: endsWith(endpoint, '/') ? take(endpoint, length(endpoint) - 1) : endpoint
  WORKFLOWS: join(workflows, ',')
}
var traced = {
  AzureFunctionsJobHost__telemetryMode: 'OpenTelemetry'
}
var own = toObject(items(union(loadJsonContent('../settings.json'), settings)), item => item.key, item => string(item.value))
var all = openTelemetry ? union(own, given, traced) : union(own, given)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-${key}-${token}'
  location: location
  tags: tags
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: 'st${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: isPrivate ? 'Deny' : 'Allow'
      bypass: 'None'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: storage
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: packages
  properties: {
    publicAccess: 'None'
  }
}

module bus 'service-bus.bicep' = {
  name: 'service-bus-${key}'
  params: {
    namespaceName: 'sb-${key}-${token}'
    location: location
    tags: tags
    tier: serviceBusTier
    workflows: workflows
    isPrivate: isPrivate
    principalId: identity.properties.principalId
    dataOwnerRoleId: roles.serviceBusDataOwner
    workspaceId: workspaceId
  }
}

module storageAccess 'storage-access.bicep' = {
  name: 'storage-access-${key}'
  params: {
    storageName: storage.name
    componentName: componentName
    principalId: identity.properties.principalId
    storageRoleIds: [
      roles.storageBlobDataOwner
      roles.storageTableDataContributor
    ]
    componentRoleId: roles.monitoringMetricsPublisher
  }
}

module storageEndpoints 'private-endpoint.bicep' = [for kind in storageEndpointKinds: {
  name: 'endpoint-${kind}-${key}'
  params: {
    name: 'pe-${kind}-${token}'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: storage.id
    groupId: kind
    dnsZoneId: dnsZoneIds[kind]
  }
}]

module busEndpoint 'private-endpoint.bicep' = if (isPrivate) {
  name: 'endpoint-namespace-${key}'
  params: {
    name: 'pe-namespace-${token}'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: bus.outputs.id
    groupId: 'namespace'
    dnsZoneId: dnsZoneIds.namespace
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-${key}-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': key })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: isPrivate ? appSubnetId : null
    outboundVnetRouting: {
      applicationTraffic: isPrivate
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packages}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: 2048
        alwaysReady: alwaysReadyTrackers > 0 ? trackers : []
      }
    }
  }
  // The package's container, and the right to read it, must exist before the site.
  dependsOn: [
    container
    storageAccess
    storageEndpoints
    busEndpoint
  ]
}

resource appSettings 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: site
  name: 'appsettings'
  properties: all
}

output name string = site.name
output principalId string = identity.properties.principalId
output namespaceId string = bus.outputs.id
output fullyQualifiedNamespace string = bus.outputs.fullyQualifiedNamespace
